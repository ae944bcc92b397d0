"""The package's logger, `dynamic_exit`: silent by default, with handlers that see more than the process asked for.

Every module logs to `logging.getLogger(__name__)`: what a user follows as INFO, what went wrong but does not stop the
work as WARNING, and details as DEBUG.
"""

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

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


@dataclass
class Step:
    """A step of a run: the attribute `step` of the two log records that tell of its beginning and its end.

    Attributes:
        name: What is done.
        found: What came of it, in a few words.
        seconds: What it took; None while it runs.
    """

    name: str
    found: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class Part:
    """How far a part of the running step is: the attribute `part` of a log record.

    Attributes:
        name: What is done.
        fraction: Of it that is done, in 0..1.
    """

    name: str
    fraction: float


@contextlib.contextmanager
def log_step(logger: logging.Logger, name: str) -> Iterator[Step]:
    """Log that a step begins, as DEBUG, and what it found in how many seconds, as INFO; not the end of one that fails.

    Args:
        logger: Logs it.
        name: Of the step.

    Yields:
        The step, which takes what was found.
    """
    step, started = Step(name), time.perf_counter()
    logger.debug(f"{name}: begins", extra={"step": step})
    yield step
    step.seconds = time.perf_counter() - started
    logger.info(f"{name}: {step.found + ', ' * bool(step.found)}in {step.seconds:.1f} s", extra={"step": step})


def _handlers() -> list[logging.Handler]:
    """Return the handlers that the package's records reach now."""
    found: list[logging.Handler] = []
    current: logging.Logger | None = package_logger
    while current is not None:
        found += current.handlers
        current = current.parent if current.propagate else None
    return found
