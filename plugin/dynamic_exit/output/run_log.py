"""The log of a run, in the folder that it writes."""

import contextlib
import logging
from pathlib import Path
from typing import BinaryIO

#: Its name. Copies and uploads of a model leave it out, since it contains paths of local folders.
LOG_FILE = "run.log"


class RunLog(logging.Handler):
    """Writes records to a file, each with time, level and logger.

    Lines are buffered until the run creates its folder, which happens late so that a refused run leaves nothing behind.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S%z"))
        self._waiting: list[bytes] = []
        self._file: BinaryIO | None = None

    def open(self, path: Path, append: bool) -> None:
        """Open the file and write the buffered lines.

        Args:
            path: The file.
            append: Whether to append to the log of an interrupted run.
        """
        # unbuffered: the last lines matter most if the process is killed
        self._file = path.open("ab" if append else "wb", buffering=0)
        self._file.write(b"".join(self._waiting))
        self._waiting.clear()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        line = f"{self.format(record)}\n".encode()
        if self._file is None:
            self._waiting.append(line)
        elif not self._file.closed:
            with contextlib.suppress(OSError):  # a full disk ends the run elsewhere, with its own message
                self._file.write(line)

    def end(self, error: BaseException | None = None) -> None:
        """Write the error that ended the run, if any, and close the file; later records are dropped."""
        if error is not None:
            reason = str(error) or type(error).__name__
            self.emit(logging.LogRecord(__name__, logging.ERROR, __file__, 0, reason, None, None))
        if self._file is not None:
            self._file.close()
