"""How long the rest of a run takes."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

# share of an estimate that the pace of what is done is held against, and the limits of a pace
_TRUST, _PACES = 0.25, (0.1, 4.0)
# fraction of a step from which it says how long it takes, and share of its time that a step which takes longer is given
_KNOWN, _LONGER = 0.02, 0.1


@dataclass
class _Part:
    """A part of the running step since it was first told of: seconds and fractions then, and at the last time."""

    name: str
    expected: float
    began: float
    first: float
    told: float
    fraction: float

    @property
    def judged(self) -> tuple[float, float]:
        """Seconds that were expected of what was done meanwhile, and that it took."""
        return self.expected * (self.fraction - self.first), self.told - self.began


class TimeLeft:
    """Corrects an estimate of steps, and of their parts, by what they take.

    Args:
        steps: Names of the steps, in order.
        clock: Returns the time in seconds.
    """

    def __init__(self, steps: Sequence[str], clock: Callable[[], float] = time.monotonic):
        self.pending, self._clock = list(steps), clock
        self.running: str | None = None
        self._expected: Mapping[str, float] = {}
        self._parts: Mapping[str, Mapping[str, float]] = {}
        self._began, self._fraction = clock(), 0.0
        # seconds that were expected of each step that is over, and that it took
        self._judged: dict[str, tuple[float, float]] = {}
        # of the running step: parts that have not begun, the one that runs, and what is known of those before it
        self._waiting: dict[str, float] = {}
        self._part: _Part | None = None
        self._done_parts = (0.0, 0.0)

    def expect(self, seconds: Mapping[str, float], parts: Mapping[str, Mapping[str, float]] | None = None) -> None:
        """Take about how many seconds each step takes, by name; others take none.

        Args:
            seconds: Of the steps.
            parts: Of the parts of a step, by step; what no part is told of has the name "", and comes first.
        """
        self._expected, self._parts = seconds, parts or {}

    def begin(self, step: str) -> None:
        """Begin a step; those before it in order are over, or were left out."""
        if step in self.pending:
            self.pending = self.pending[self.pending.index(step) + 1 :]
        self.running, self._began, self._fraction = step, self._clock(), 0.0
        self._forget_parts()
        self._waiting = dict(self._parts.get(step, {}))

    def advance(self, fraction: float) -> None:
        """Take the fraction of the running step that is done, in 0..1."""
        self._fraction = fraction

    def advance_part(self, name: str, fraction: float) -> None:
        """Take the fraction of a part of the running step that is done; parts before it are over, or were left out."""
        now = self._clock()
        if name in self._waiting:
            names = [*self._waiting]
            expected = self._waiting[name]
            self._waiting = {each: self._waiting[each] for each in names[names.index(name) + 1 :]}
            self._add_part()
            self._part = _Part(name, expected, now, fraction, now, fraction)
        elif self._part is not None and self._part.name == name:
            self._part.told, self._part.fraction = now, fraction

    def end(self) -> None:
        """End the running step."""
        if self.running:
            self._add_part()
            whole = (self._expected.get(self.running, 0.0), self.elapsed)
            # parts may have been left out, which says nothing of the pace of others
            self._judged[self.running] = self._done_parts if self._done_parts[0] else whole
        self.running = None
        self._forget_parts()

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
        elapsed, pace = self.elapsed, self._pace()
        if self._part is not None:
            return self._rest_of(self._part) + self._pace_of_parts() * sum(self._waiting.values())
        if self._fraction >= _KNOWN:
            return elapsed * (1 - self._fraction) / self._fraction
        expected = self._expected.get(self.running or "", 0.0)
        later = pace * sum(seconds for name, seconds in self._waiting.items() if name)
        return later + max(pace * expected - later - elapsed, _LONGER * elapsed)

    def _rest_of(self, part: _Part) -> float:
        done, since = part.fraction - part.first, self._clock() - part.told
        if done < _KNOWN:
            return max(self._pace_of_parts() * (1 - part.fraction) * part.expected - since, _LONGER * since)
        return max((part.told - part.began) * (1 - part.fraction) / done - since, _LONGER * since)

    def _pace(self) -> float:
        """Return by which factor what is done took longer than was estimated."""
        judged = dict(self._judged)
        if self.running:
            expected, elapsed = self._expected.get(self.running, 0.0), self.elapsed
            parts = self._all_parts()
            if parts[0]:
                judged[self.running] = parts
            elif self._fraction < _KNOWN and elapsed > expected and self._expected:
                judged[self.running] = (expected, elapsed)
        pairs = [pair for step, pair in judged.items() if step in self._expected]
        return _ratio(pairs, sum(self._expected.values()))

    def _pace_of_parts(self) -> float:
        return _ratio([self._all_parts()], sum(self._parts.get(self.running or "", {}).values()))

    def _all_parts(self) -> tuple[float, float]:
        """Return the seconds that were expected of the parts of the running step so far, and that they took."""
        expected, took = self._part.judged if self._part else (0.0, 0.0)
        return self._done_parts[0] + expected, self._done_parts[1] + took

    def _add_part(self) -> None:
        self._done_parts, self._part = self._all_parts(), None

    def _forget_parts(self) -> None:
        self._waiting, self._part, self._done_parts = {}, None, (0.0, 0.0)


def _ratio(judged: Sequence[tuple[float, float]], whole: float) -> float:
    """Return how much longer than expected some things took, drawn towards 1 by a share of all that is expected."""
    trust = _TRUST * whole
    expected = trust + sum(pair[0] for pair in judged)
    if not expected:
        return 1.0
    return min(max((trust + sum(pair[1] for pair in judged)) / expected, _PACES[0]), _PACES[1])
