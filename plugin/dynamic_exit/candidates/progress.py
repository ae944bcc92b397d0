"""Progress of the work on candidates."""

import logging
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

#: Takes what is being done and the fraction of all work that is done, in 0..1.
Progress = Callable[[str, float], None]


class ProgressLog:
    """Logs progress now and then, with an estimate of the time left.

    Args:
        interval: Seconds between two lines, at least.
        clock: Returns the time in seconds.
    """

    def __init__(self, interval: float = 10.0, clock: Callable[[], float] = time.perf_counter):
        self._interval, self._clock = interval, clock
        self._start: tuple[float, float] | None = None
        self._last_line = 0.0

    def __call__(self, what: str, fraction: float) -> None:
        """Take the fraction of all work that is done, in 0..1."""
        now = self._clock()
        if self._start is None:
            self._start, self._last_line = (now, fraction), now
        start, before = self._start
        if now - self._last_line >= self._interval and before < fraction < 1:
            left = (now - start) * (1 - fraction) / (fraction - before)
            logger.info(f"{what}: {fraction:.0%} of all, about {left:.0f} s left")
            self._last_line = now
