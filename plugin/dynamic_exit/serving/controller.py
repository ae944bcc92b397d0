"""Chooses operating points by load: the most accurate one that keeps a latency goal."""

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal

from .gears import Gear, make_gear

#: Why a point was chosen: the rows that arrive, those that wait, answers that came late, or that none of these lasts.
Reason = Literal["rate", "queue", "late", "calm"]

# seconds over which arrivals are counted, and the parts that they are counted in
_WINDOW, _PART = 0.5, 0.1
# seconds over which late answers are counted, and the share of them that a goal allows
_LATE_WINDOW, _MAX_LATE = 1.0, 0.01
# how much of what is known of this machine's speed a batch leaves, and how many single rows the run's own times weigh
_KEPT, _PRIOR_ROWS = 0.98, 10
# steps in which a machine is called slower or faster, so that gears are not made anew for each batch
_STEP = math.log(1.05)


class LoadController:
    """Says before each batch at which operating point it runs and how many rows it may have.

    It takes a cheaper point at once when the rows that arrive, those that wait or late answers ask for it, and a more
    accurate one only when nothing has asked for the cheaper one for a while. It has no clock: all times are given to
    it, in seconds from any moment, and never decrease but by what threads differ. Safe from any thread.

    Args:
        gears: As `gear_table` returns them.
        goal: Seconds that 99 % of the requests of any second may take.
        planned: Seconds of it that waiting and answering may take, as of `planned_seconds`.
        max_batch: Rows that go together at most.
        hold: Seconds for which a cheaper point is kept after it was last needed.

    Attributes:
        goal: As given.
        gear: The current gear, the most accurate one at first.
        slowness: Seconds that batches take here over those of the run.
        rate: Rows a second that arrived of late.
        shifts: How often each point was taken for each reason.
    """

    def __init__(self, gears: Sequence[Gear], goal: float, planned: float, max_batch: int, hold: float = 1.0):
        self.goal, self._planned, self._max_batch, self._hold = goal, planned, max_batch, hold
        self._table = self._gears = tuple(gears)
        self._lock = threading.Lock()
        self._place, self._step = 0, 0
        self._needs: deque[tuple[float, int]] = deque()
        self._arrivals: deque[tuple[int, int]] = deque()
        self._measured = self._expected = _PRIOR_ROWS * gears[0].times.batch_seconds(1)
        self._late_since, self._late, self._answers, self._more = -math.inf, 0, 0, 0
        self.rate = 0.0
        self.shifts: dict[tuple[str, Reason], int] = {}

    @property
    def gear(self) -> Gear:
        """The current gear."""
        return self._gears[self._place]

    @property
    def gears(self) -> tuple[Gear, ...]:
        """All gears, with what each carries at the speed of this machine."""
        return self._gears

    @property
    def slowness(self) -> float:
        """Seconds that batches take here over those of the run."""
        return self._measured / self._expected

    def arrived(self, now: float, rows: int) -> None:
        """Count the rows of a request."""
        with self._lock:
            part = int(now // _PART)
            if self._arrivals and self._arrivals[-1][0] >= part:
                part, before = self._arrivals.pop()
                rows += before
            self._arrivals.append((part, rows))

    def choose(self, now: float, rows: int, waited: float) -> Gear:
        """Return the gear of the next batch.

        Args:
            now: The time.
            rows: Rows that wait, at least one.
            waited: Seconds that the first of them has waited.
        """
        with self._lock:
            self._measure_rate(now)
            self._roll_late(now)
            last = len(self._gears) - 1
            needs: dict[Reason, int] = {
                "rate": self._first(lambda gear: gear.rows_per_second >= self.rate),
                "queue": self._first(lambda gear: self._keeps_goal(gear, rows, waited)),
            }
            needs["late"] = min(last, max(needs.values()) + self._more) if self._more else 0
            need = max(needs.values())
            while self._needs and self._needs[0][0] <= now - self._hold:
                self._needs.popleft()
            while self._needs and self._needs[-1][1] <= need:
                self._needs.pop()
            self._needs.append((now, need))
            place = self._needs[0][1]
            if place != self._place:
                reason: Reason = max(needs, key=needs.__getitem__) if place > self._place else "calm"
                self._place = place
                key = (self._gears[place].point, reason)
                self.shifts[key] = self.shifts.get(key, 0) + 1
            gear = self._gears[place]
            # what is late whatever is done is over soonest in large batches
            late = self.slowness * gear.drain_seconds(rows) > self._planned
            return gear._replace(batch=self._max_batch) if late else gear

    def finished(self, rows: int, seconds: float) -> None:
        """Learn from a batch of the current gear how fast this machine is.

        Args:
            rows: Its rows.
            seconds: What the model took.
        """
        with self._lock:
            self._measured = _KEPT * self._measured + seconds
            self._expected = _KEPT * self._expected + self.gear.times.batch_seconds(rows)
            step = round(math.log(self.slowness) / _STEP)
            if step != self._step:
                self._step = step
                slowness = math.exp(step * _STEP)
                self._gears = tuple(
                    make_gear(gear.times, self._planned, self._max_batch, slowness) for gear in self._table
                )

    def answered(self, now: float, seconds: float) -> None:
        """Count an answer.

        Args:
            now: The time.
            seconds: From the arrival of the request to its answer.
        """
        with self._lock:
            self._roll_late(now)
            self._answers += 1
            self._late += seconds > self.goal

    def _first(self, fits: Callable[[Gear], bool]) -> int:
        """Return the place of the most accurate gear that fits, else of the last."""
        return next((place for place, gear in enumerate(self._gears) if fits(gear)), len(self._gears) - 1)

    def _keeps_goal(self, gear: Gear, rows: int, waited: float) -> bool:
        """Whether rows that wait are answered in half of the time: those that come meanwhile wait for them."""
        first = waited + self.slowness * gear.times.batch_seconds(min(rows, gear.batch))
        return max(first, self.slowness * gear.drain_seconds(rows)) <= self._planned / 2

    def _measure_rate(self, now: float) -> None:
        oldest = int(now // _PART) - round(_WINDOW / _PART)
        while self._arrivals and self._arrivals[0][0] <= oldest:
            self._arrivals.popleft()
        self.rate = sum(rows for _, rows in self._arrivals) / _WINDOW

    def _roll_late(self, now: float) -> None:
        """Go one gear further down after a second in which too many answers were late, and back after another."""
        if now - self._late_since < _LATE_WINDOW:
            return
        late = self._late > _MAX_LATE * self._answers
        self._more = min(self._more + 1, len(self._gears) - 1) if late else max(self._more - 1, 0)
        self._late_since, self._late, self._answers = now, 0, 0
