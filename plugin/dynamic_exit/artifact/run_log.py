"""The log of a run, kept in the folder that it writes."""

import contextlib
import logging
from pathlib import Path
from typing import BinaryIO

#: Its name. It stays where the run wrote it: copies and uploads of a model go without, as it names local folders.
LOG_FILE = "run.log"


class RunLog(logging.Handler):
    """Writes records to a file, each with time, level and logger.

    The folder of a run is made late, so that a refused run leaves nothing behind: until then lines are held back.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S%z"))
        self._waiting: list[bytes] = []
        self._file: BinaryIO | None = None

    def open(self, path: Path, append: bool) -> None:
        """Write to a file from now on, beginning with the lines that were held back.

        Args:
            path: The file.
            append: Go on behind what an interrupted run has written there.
        """
        # unbuffered: what was written last matters most where a process is killed
        self._file = path.open("ab" if append else "wb", buffering=0)
        self._file.write(b"".join(self._waiting))
        self._waiting.clear()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        line = f"{self.format(record)}\n".encode()
        if self._file is None:
            self._waiting.append(line)
        elif not self._file.closed:
            with contextlib.suppress(OSError):  # a full disk ends the run elsewhere, with a message of its own
                self._file.write(line)

    def end(self, error: BaseException | None = None) -> None:
        """Write why the run ended, where it did not succeed, and close the file; later records are dropped."""
        if error is not None:
            why = str(error) or type(error).__name__
            self.emit(logging.LogRecord(__name__, logging.ERROR, __file__, 0, why, None, None))
        if self._file is not None:
            self._file.close()
