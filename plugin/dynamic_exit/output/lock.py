"""A lock on an output folder, so that two runs never write to the same one."""

import errno
import json
import os
import socket
import time
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import OutputError

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None

# another run may hold the lock without having written yet who it is
_ATTEMPTS, _SECONDS_BETWEEN = 20, 0.05
#: Name of the file where it lies in the output itself.
LOCK = ".lock"
_WAIT = "wait for it, or choose another folder"


class OutputLock:
    """Held by a run for its whole duration; the operating system releases it with the process, however that ends.

    The lock is on a hidden file beside the output, or in it, which names the holder and is removed on release. If a
    process is killed its file remains without effect, since the lock belongs to the open file.

    Args:
        directory: The output. Missing parent folders are created, and removed on release if they are empty.
        inside: Whether the file lies in the output, which exists.

    Raises:
        OutputError: Another run holds the lock, or it cannot be created.
    """

    def __init__(self, directory: str | Path, inside: bool = False):
        directory = Path(directory)
        # the real path: two spellings of one folder share a lock
        parent = Path(os.path.realpath(directory if inside else directory.parent))
        self.path = parent / (LOCK if inside else f".{directory.name}{LOCK}")
        self._created: list[Path] = []
        self._file: int | None = None
        try:
            self._file = self._open(directory)
        except OSError as error:
            self._remove_folders()
            reason = error.strerror or error
            raise OutputError(f"output '{directory}' cannot be made: {reason}; choose another place") from error
        except BaseException:
            self._remove_folders()
            raise

    def _open(self, directory: Path) -> int:
        while True:
            self._create_folders()
            try:
                file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except FileNotFoundError:  # another run removed the folder that it had created
                if self.path.parent.is_dir():
                    raise
                continue
            try:
                if not _lock(file):
                    holder = self._holder()
                    if holder:
                        raise OutputError(f"output '{directory}' is being written by {holder}")
                # the previous holder may have removed the file since it was opened here
                elif _is_at(file, self.path):
                    os.ftruncate(file, 0)
                    os.write(file, json.dumps(_describe_process()).encode())
                    return file
            except BaseException:
                os.close(file)
                raise
            os.close(file)

    def release(self) -> None:
        """Release the lock; further calls have no effect."""
        if self._file is None:
            return
        file, self._file = self._file, None
        # removed while it is held: whoever has opened it sees that it is gone, and opens another
        if _is_at(file, self.path):
            self.path.unlink()
        os.close(file)
        self._remove_folders()

    def _create_folders(self) -> None:
        missing = [place for place in (self.path.parent, *self.path.parent.parents) if not place.exists()]
        for place in reversed(missing):
            place.mkdir(exist_ok=True)
            self._created.insert(0, place)

    def _remove_folders(self) -> None:
        for place in self._created:
            try:
                place.rmdir()
            except OSError:  # it is not empty
                return

    def _holder(self) -> str | None:
        """Describe the holder of the lock; None if it has been released."""
        for _ in range(_ATTEMPTS):
            try:
                holder = json.loads(self.path.read_text(encoding="utf-8"))
                return f"process {holder['process']} on {holder['host']} since {holder['since']}; {_WAIT}"
            except FileNotFoundError:
                return None
            except (OSError, ValueError, LookupError, TypeError):
                time.sleep(_SECONDS_BETWEEN)
        return f"another run, which holds '{self.path}'; {_WAIT}"


def _describe_process() -> dict[str, Any]:
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    return {"process": os.getpid(), "host": socket.gethostname(), "since": since}


def _lock(file: int) -> bool:
    """Lock an open file; return False if another process holds the lock."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        # some network file systems have no locks; runs there go without
        if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
            raise
    return True


def _is_at(file: int, path: Path) -> bool:
    """Whether an open file is the one at a path."""
    try:
        here, there = os.fstat(file), os.stat(path)
    except FileNotFoundError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
