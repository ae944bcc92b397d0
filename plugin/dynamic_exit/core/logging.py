"""The package's logger, `dynamic_exit`: silent by default, with handlers that see more than the process asked for.

Every module logs to `logging.getLogger(__name__)`: what a user follows as INFO, what went wrong but does not stop the
work as WARNING, and details such as seconds as DEBUG.
"""

import contextlib
import logging
import time
from collections.abc import Iterator

package_logger = logging.getLogger(__name__.partition(".")[0])


@contextlib.contextmanager
def logging_to(handler: logging.Handler, level: int = logging.INFO) -> Iterator[None]:
    """Send the package's records from `level` on to a handler; what other handlers receive stays the same.

    Args:
        handler: Its own level is set to `level`.
        level: The lowest level that it receives.
    """
    handler.setLevel(level)
    own_level, before = package_logger.level, package_logger.getEffectiveLevel()
    others = _handlers()

    def allowed_before(record: logging.LogRecord) -> bool:
        ours = record.name.partition(".")[0] == package_logger.name
        return not ours or record.levelno >= before

    for other in others:
        other.addFilter(allowed_before)
    package_logger.addHandler(handler)
    package_logger.setLevel(min(level, before))
    try:
        yield
    finally:
        package_logger.setLevel(own_level)
        package_logger.removeHandler(handler)
        for other in others:
            other.removeFilter(allowed_before)


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Drop all records of the package, as those of a process that only helps the main one."""
    before = package_logger.level
    package_logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        package_logger.setLevel(before)


@contextlib.contextmanager
def log_seconds(logger: logging.Logger, step: str) -> Iterator[None]:
    """Log how long a step took, as DEBUG; a step that fails logs nothing.

    Args:
        logger: Logs it.
        step: Its name.
    """
    started = time.perf_counter()
    yield
    logger.debug(f"{step}: {time.perf_counter() - started:.1f} s")


def _handlers() -> list[logging.Handler]:
    """Return the handlers that the package's records reach now."""
    found: list[logging.Handler] = []
    current: logging.Logger | None = package_logger
    while current is not None:
        found += current.handlers
        current = current.parent if current.propagate else None
    return found
