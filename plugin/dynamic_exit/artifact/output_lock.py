"""A lock on an output folder: two runs never write the same one."""

import errno
import json
import os
import socket
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import OutputError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

# the first run may have opened its lock without having said yet who it is
_LOOKS, _BETWEEN = 20, 0.05
_WAIT = "wait for it, or choose another folder"


class OutputLock:
    """Held by one run from before its work until its end, however it ends: the system releases it with the process.

    It is a hidden file beside the output, which says who holds it and is removed when it is released. Where a process
    was killed the file stays and means nothing: the lock is the system's, on the open file.

    Args:
        directory: The output. Folders above it are made, and removed on release where nothing else came into them.

    Raises:
        OutputError: Another run holds the lock, or it cannot be had here.
    """

    def __init__(self, directory: str | Path):
        directory = Path(directory)
        # the parent as it really is: two spellings of one place share a lock
        parent = Path(os.path.realpath(directory.parent))
        self.path, self._made = parent / f".{directory.name}.lock", []
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
            self._make_folders()
            try:
                file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except FileNotFoundError:  # another run removed the folder that it had made
                if self.path.parent.is_dir():
                    raise
                continue
            try:
                if not _locked(file):
                    holder = self._holder()
                    if holder:
                        raise OutputError(f"output '{directory}' is being written by {holder}")
                # the one before may have removed the file since this one opened it
                elif _is_at(file, self.path):
                    os.ftruncate(file, 0)
                    os.write(file, json.dumps(_myself()).encode())
                    return file
            except BaseException:
                os.close(file)
                raise
            os.close(file)

    def release(self) -> None:
        """Let others write there; once is enough."""
        if self._file is None:
            return
        file, self._file = self._file, None
        # removed while it is held: who has it open already sees that it is gone, and opens another
        if _is_at(file, self.path):
            self.path.unlink()
        os.close(file)
        self._remove_folders()

    def _make_folders(self) -> None:
        missing = [place for place in (self.path.parent, *self.path.parent.parents) if not place.exists()]
        for place in reversed(missing):
            place.mkdir(exist_ok=True)
            self._made.insert(0, place)

    def _remove_folders(self) -> None:
        for place in self._made:
            try:
                place.rmdir()
            except OSError:  # something is in it, as it should
                return

    def _holder(self) -> str | None:
        """Say who holds the lock; None where it is free by now."""
        for _ in range(_LOOKS):
            try:
                known = json.loads(self.path.read_text(encoding="utf-8"))
                return f"process {known['process']} on {known['host']} since {known['since']}; {_WAIT}"
            except FileNotFoundError:
                return None
            except (OSError, ValueError, LookupError, TypeError):
                time.sleep(_BETWEEN)
        return f"another run, which holds '{self.path}'; {_WAIT}"


def _myself() -> dict[str, Any]:
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    return {"process": os.getpid(), "host": socket.gethostname(), "since": since}


def _locked(file: int) -> bool:
    """Lock an open file; False where another process has."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        # some network file systems know no locks; a run there is as good as it was without
        if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
            raise
    return True


def _is_at(file: int, path: Path) -> bool:
    """Whether an open file is the one of a path."""
    try:
        here, there = os.fstat(file), os.stat(path)
    except FileNotFoundError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
