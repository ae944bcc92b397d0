"""How long the rest of a run takes."""

import time
from collections.abc import Callable, Mapping, Sequence

# share of the whole estimate that the pace of the first steps is held against, and the limits of a pace
_TRUST, _PACES = 0.1, (0.1, 10.0)
# fraction of a step from which it says how long it takes, and share of its time that a step which takes longer is given
_KNOWN, _LONGER = 0.02, 0.1


class TimeLeft:
    """Corrects an estimate of steps by what they take.

    Args:
        steps: Names of the steps, in order.
        clock: Returns the time in seconds.
    """

    def __init__(self, steps: Sequence[str], clock: Callable[[], float] = time.monotonic):
        self.pending, self._clock = list(steps), clock
        self.running: str | None = None
        self._expected: Mapping[str, float] = {}
        self._began, self._fraction = clock(), 0.0
        self._taken: dict[str, float] = {}

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Take about how many seconds each step takes, by name; others take none."""
        self._expected = seconds

    def begin(self, step: str) -> None:
        """Begin a step; those before it in order are over, or were left out."""
        if step in self.pending:
            self.pending = self.pending[self.pending.index(step) + 1 :]
        self.running, self._began, self._fraction = step, self._clock(), 0.0

    def advance(self, fraction: float) -> None:
        """Take the fraction of the running step that is done, in 0..1."""
        self._fraction = fraction

    def end(self) -> None:
        """End the running step."""
        if self.running:
            self._taken[self.running] = self.elapsed
        self.running = None

    @property
    def elapsed(self) -> float:
        """Seconds of the running step so far."""
        return self._clock() - self._began

    def seconds(self) -> float | None:
        """Return the seconds that are left; None if nothing was estimated."""
        if not self._expected:
            return None
        left = self._pace() * sum(self._expected.get(step, 0.0) for step in self.pending)
        return left + (self._rest() if self.running else 0.0)

    def _rest(self) -> float:
        """Seconds that are left of the running step."""
        elapsed = self.elapsed
        if self._fraction >= _KNOWN:
            return elapsed * (1 - self._fraction) / self._fraction
        return max(self._pace() * self._expected.get(self.running or "", 0.0) - elapsed, _LONGER * elapsed)

    def _pace(self) -> float:
        """Return by which factor finished steps took longer than was estimated."""
        judged = [step for step in self._taken if step in self._expected]
        trust = _TRUST * sum(self._expected.values())
        expected = trust + sum(self._expected[step] for step in judged)
        if not expected:
            return 1.0
        return min(max((trust + sum(self._taken[step] for step in judged)) / expected, _PACES[0]), _PACES[1])
