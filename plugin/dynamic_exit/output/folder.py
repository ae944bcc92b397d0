"""The output of a run: where its parts are written, what may be replaced, and how the whole takes its place."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ..artifact.folder import PATTERNS
from ..artifact.manifest import CONFIG_FILE, read_manifest
from ..core.atomic_write import sync, sync_tree
from ..errors import DynamicExitError, ExportError, OutputError
from .lock import LOCK
from .run_log import LOG_FILE

#: Appended to the output's name while it is being written; the whole name within an output that cannot be replaced.
PARTIAL = ".partial"
# within an output that cannot be replaced: a finished one that takes its place, and what it replaces
_FINISHED, _REPLACED = ".finished", ".replaced"
_OWN = (PARTIAL, LOCK, _FINISHED, _REPLACED)
# what a new file system holds
_IGNORED_INSIDE = ("lost+found",)
# the errors of a disk that is full or can only be read
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


@dataclass(frozen=True)
class OutputFolder:
    """A folder that appears complete or not at all, whenever the run is killed or the machine loses power.

    Its parts are written beside it and the folder is renamed at the end. A mount point, or a folder whose parent cannot
    be written, holds its parts itself; they are moved up at the end, the configuration last, without which no folder
    loads. What a killed run has begun to move, `settle` moves on or back.

    Attributes:
        directory: The output, not a link.
        inside: Whether its parts are written inside it.
        overwrite: Whether it may be a folder that a run has written, which is replaced at the end.
    """

    directory: Path
    inside: bool
    overwrite: bool = False

    @classmethod
    def locate(cls, directory: str | Path, overwrite: bool = False) -> "OutputFolder":
        """Find where to write; a link to a folder is followed.

        Raises:
            OutputError: The output cannot be reached.
        """
        try:
            path = Path(directory)
            path = path.resolve() if path.is_symlink() else path
            return cls(path, _cannot_be_replaced(path), overwrite)
        except (OSError, RuntimeError) as error:  # RuntimeError: a link that leads to itself
            raise _cannot_be_made(directory, error) from error

    @property
    def partial(self) -> Path:
        """The folder of the parts."""
        return self.directory / PARTIAL if self.inside else self.directory.with_name(self.directory.name + PARTIAL)

    def check(self, resume: bool = False) -> None:
        """Check that a run can write the output without losing anything.

        Args:
            resume: Whether it may be written already.

        Raises:
            OutputError: It is a file, lies below one, or is a folder with other content.
        """
        for place in (self.directory, self.partial, *self.directory.parents):
            if os.path.lexists(place) and not place.is_dir():
                raise OutputError(f"output '{place}' is a file; choose a folder that does not exist yet")
        try:
            content = self.content()
        except OSError as error:
            raise _cannot_be_made(self.directory, error) from error
        if not self.is_settled or (resume and content):
            return
        if content and not self.overwrite:
            raise OutputError(f"output folder '{self.directory}' is not empty; choose another one or empty it")
        if content:
            self._check_replaceable()

    def content(self) -> list[Path]:
        """List what the output holds, without what belongs to a run that has not ended."""
        ignored = (*_OWN, *_IGNORED_INSIDE) if self.inside else _OWN
        found = self.directory.iterdir() if self.directory.is_dir() else ()
        return sorted(path for path in found if path.name not in ignored)

    def _check_replaceable(self) -> None:
        try:
            manifest = read_manifest(self.directory)
        except ExportError as error:
            raise OutputError(
                f"output folder '{self.directory}' holds no model that a run wrote, and --overwrite replaces nothing "
                "else; choose another one or empty it"
            ) from error
        known = {path for pattern in PATTERNS for path in self.directory.glob(pattern)}
        named = (CONFIG_FILE, LOG_FILE, *manifest.checksums, *manifest.tokenizer_files)
        known |= {self.directory / name for name in named}
        for path in self.content():
            if not any(path == each or path in each.parents for each in known):
                raise OutputError(
                    f"output folder '{self.directory}' holds '{path.name}', which no run wrote and --overwrite would "
                    "remove; choose another one, or move that away"
                )

    def check_space(self, needed: int) -> None:
        """Check that there is room for at least so many bytes.

        Raises:
            OutputError: There is not.
        """
        place = next(place for place in (self.partial, *self.partial.parents) if place.is_dir())
        free = shutil.disk_usage(place).free
        if free < needed:
            raise OutputError(
                f"output '{self.directory}' takes at least {needed / 1e6:.1f} MB, '{place}' has {free / 1e6:.1f} MB "
                "left; make room or choose another place"
            )

    def explain_disk_error(self, error: BaseException | None) -> None:
        """Say in one sentence that a disk is full or cannot be written.

        Args:
            error: What ended the run; other errors are left as they are.

        Raises:
            OutputError: In place of such an error.
        """
        if isinstance(error, OSError) and not isinstance(error, DynamicExitError) and error.errno in _DISK_ERRORS:
            place = f"'{error.filename}'" if error.filename else f"'{self.partial}' or '{tempfile.gettempdir()}'"
            raise OutputError(
                f"{place} cannot be written: {error.strerror}; make room there or choose another place"
            ) from error

    def complete(self) -> None:
        """Put the parts in the output's place, and remove what they replace.

        Raises:
            OSError: It cannot be done; what was there is back.
        """
        try:
            if self.inside or not self._rename():
                self._fill()
        except BaseException:
            with contextlib.suppress(OSError):
                self.settle()
            raise

    def _rename(self) -> bool:
        """Rename the folder of the parts; return False if the output turns out to be a mount point."""
        try:
            if self.content():
                os.replace(self.directory, self._beside)
            os.replace(self.partial, self.directory)
            sync(self.directory.parent)
        except OSError as error:
            if self._beside.is_dir():
                os.replace(self._beside, self.directory)
            # a folder of the same disk that is mounted elsewhere shows only here
            if error.errno not in (errno.EBUSY, errno.EXDEV):
                raise
            return False
        shutil.rmtree(self._beside, ignore_errors=True)
        return True

    def _fill(self) -> None:
        """Move the parts up, once they are within the output and what was there is out of their way."""
        inner = replace(self, inside=True)
        if not self.inside:
            shutil.copytree(self.partial, inner.partial)
            sync_tree(inner.partial)
        (self.directory / _REPLACED).mkdir()
        _move(self.content(), self.directory / _REPLACED)
        os.replace(inner.partial, self.directory / _FINISHED)  # from here on `settle` moves on, up to here back
        sync(self.directory)
        self._move_up()
        if not self.inside:
            shutil.rmtree(self.partial)

    def _move_up(self) -> None:
        _move((self.directory / _FINISHED).iterdir(), self.directory)
        sync(self.directory)
        shutil.rmtree(self.directory / _REPLACED, ignore_errors=True)
        (self.directory / _FINISHED).rmdir()  # last: without it, what is replaced comes back

    @property
    def _beside(self) -> Path:
        """What the output was until it is replaced by renaming."""
        return self.directory.with_name(f".{self.directory.name}{_REPLACED}")

    @property
    def is_settled(self) -> bool:
        """Whether no run was killed while it put its parts in the output's place."""
        moved = (self._beside, self.directory / _FINISHED, self.directory / _REPLACED)
        return not any(place.is_dir() for place in moved)

    def settle(self) -> None:
        """Complete or undo what a killed run had begun to move; the output must be locked.

        Raises:
            OSError: It cannot be done.
        """
        if (self.directory / _FINISHED).is_dir():
            self._move_up()
        if (self.directory / _REPLACED).is_dir():
            _move((self.directory / _REPLACED).iterdir(), self.directory)
            (self.directory / _REPLACED).rmdir()
        if not self.inside and (self.directory / PARTIAL).is_dir():  # a copy that was cut short
            shutil.rmtree(self.directory / PARTIAL)
        if self._beside.is_dir():
            if self.content():
                shutil.rmtree(self._beside, ignore_errors=True)
            else:
                os.replace(self._beside, self.directory)


def _move(paths: Iterable[Path], folder: Path) -> None:
    """Move files and folders of one disk into a folder: away the configuration first, into their place last."""
    leaving = folder.name == _REPLACED
    for path in sorted(paths, key=lambda path: (path.name == CONFIG_FILE) != leaving):
        os.replace(path, folder / path.name)


def _cannot_be_replaced(directory: Path) -> bool:
    """Whether a folder exists that can be filled but not replaced."""
    return directory.is_dir() and (os.path.ismount(directory) or not os.access(directory.parent, os.W_OK | os.X_OK))


def _cannot_be_made(directory: str | Path, error: Exception) -> OutputError:
    reason = getattr(error, "strerror", None) or error
    return OutputError(f"output '{directory}' cannot be made: {reason}; choose another place")
