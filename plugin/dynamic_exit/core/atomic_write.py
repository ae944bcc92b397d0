"""Atomic file writes."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


@contextmanager
def atomic_write(path: str | os.PathLike[str], flush: bool = True) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` that replaces it once it is complete; a failed write leaves no trace.

    Links are followed. Devices and pipes are written to; they cannot be replaced.

    Args:
        path: The file to write or replace; its folder must exist.
        flush: Whether it is on the disk before it has its name, so that a power cut leaves it whole, too.

    Yields:
        The temporary file, open for bytes.

    Raises:
        OSError: The file cannot be written.
    """
    if _is_special(path):
        with open(path, "wb") as special:
            yield special
        return
    path = Path(os.path.realpath(path))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            yield file
            if flush:
                file.flush()
                os.fsync(file.fileno())
            file.close()
            os.chmod(file.name, 0o644)
            _replace(file.name, path)
            if flush:
                sync(path.parent)
        except BaseException:
            with suppress(FileNotFoundError):  # an interrupt may come once it has replaced the other
                os.unlink(file.name)
            raise


def sync(place: str | os.PathLike[str]) -> None:
    """Wait until a file, or the names in a folder, are on the disk; file systems that cannot say so are left alone."""
    if os.name != "nt":  # which opens no folders
        number = os.open(place, os.O_RDONLY)
        try:
            with suppress(OSError):
                os.fsync(number)
        finally:
            os.close(number)


def sync_tree(folder: Path) -> None:
    """Wait until all files in a folder, and their names, are on the disk."""
    for place in (*folder.rglob("*"), folder):
        sync(place)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Check that `atomic_write` can write to `path`, without changing what is there.

    Raises:
        OSError: It cannot.
    """
    if _is_special(path):
        if not os.access(path, os.W_OK):  # opening a pipe would wait for its reader
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return
    path = Path(os.path.realpath(path))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
        pass


def _is_special(path: str | os.PathLike[str]) -> bool:
    """Whether there is something that is neither a file nor a folder."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def _replace(source: str, path: Path) -> None:
    try:
        os.replace(source, path)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        # a file that is a mount point of its own, as in containers, can be written to but not replaced
        shutil.copyfile(source, path)
        os.unlink(source)
