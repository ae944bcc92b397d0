"""What the package logs, as the lines that a terminal shows."""

import contextlib
import logging
from collections.abc import Callable, Iterator

from dynamic_exit.core.logging import logging_to


class _Lines(logging.Handler):
    def __init__(self, take: Callable[[str], None]):
        super().__init__()
        self.take = take

    def emit(self, record: logging.LogRecord) -> None:
        severity = "warning: " if record.levelno >= logging.WARNING else ""
        self.take(f"{severity}{record.getMessage()}")


@contextlib.contextmanager
def log_to(take: Callable[[str], None]) -> Iterator[None]:
    """Hand every line from INFO on to a function; an error that it raises reaches the code that logs."""
    with logging_to(_Lines(take)):
        yield


@contextlib.contextmanager
def log_lines() -> Iterator[list[str]]:
    """Gather the lines from INFO on."""
    lines: list[str] = []
    with log_to(lines.append):
        yield lines
