"""How far long work is."""

import logging
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

#: Takes what is being done and the share of all work that is done, in 0..1.
Progress = Callable[[str, float], None]


class Lines:
    """Logs how far the work is in plain lines, with an estimate of the time left.

    Args:
        every: Seconds between two lines.
        clock: Gives seconds.
    """

    def __init__(self, every: float = 10.0, clock: Callable[[], float] = time.perf_counter):
        self._every, self._clock = every, clock
        self._began: tuple[float, float] | None = None
        self._said = 0.0

    def __call__(self, what: str, share: float) -> None:
        """Take the share of all work that is done, in 0..1."""
        now = self._clock()
        if self._began is None:
            self._began, self._said = (now, share), now
        began, before = self._began
        if now - self._said >= self._every and before < share < 1:
            left = (now - began) * (1 - share) / (share - before)
            logger.info(f"{what}: {share:.0%} of all, about {left:.0f} s left")
            self._said = now
