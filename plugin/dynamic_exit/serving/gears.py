"""Gears of a server: which load each operating point carries within a latency goal, by the times of the run."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log
from pathlib import Path
from typing import NamedTuple

from ..errors import ServingError
from ..points.operating_point import BACKBONE, OperatingPoint, OperatingPoints
from ..report.metrics import METRICS_FILE, Metrics, PointFigures

# least share of a goal that batches which wait for company must leave
_MIN_PLANNED = 0.1
# share of a goal that is planned with; the rest is for requests that are read and written, and for hard batches
_PLANNED = 0.8
_LOG_HUNDRED = log(100)


@dataclass(frozen=True)
class PointTimes:
    """How long batches take at an operating point.

    Attributes:
        point: Its name.
        accuracy_drop: Below the backbone's, on the test samples of the run.
        rows: Sizes of batches that were timed, increasing.
        seconds: Of a whole batch of each size, never decreasing.
    """

    point: str
    accuracy_drop: float
    rows: tuple[int, ...]
    seconds: tuple[float, ...]

    def batch_seconds(self, rows: int) -> float:
        """Return the expected seconds of a batch: linear between sizes that were timed, and beyond them."""
        if len(self.rows) == 1:
            return self.seconds[0] * max(1.0, rows / self.rows[0])
        if rows <= self.rows[0]:
            return self.seconds[0]
        sizes = [*zip(self.rows, self.seconds, strict=True)]
        for (low, low_seconds), (high, high_seconds) in pairwise(sizes):
            if rows <= high or high == self.rows[-1]:
                return low_seconds + (high_seconds - low_seconds) * (rows - low) / (high - low)
        raise AssertionError


class Gear(NamedTuple):
    """What a server does up to some load.

    Attributes:
        times: Of its operating point.
        batch: Rows that go together at most, so that a request that waits for one batch keeps the goal in the next.
        rows_per_second: The highest load at which 99 % of requests wait for no more than one batch; 0 if not even
            single rows keep the goal.
    """

    times: PointTimes
    batch: int
    rows_per_second: float

    @property
    def point(self) -> str:
        """Name of the operating point."""
        return self.times.point

    def drain_seconds(self, rows: int) -> float:
        """Return the seconds in which rows that wait are answered, at the speed of the run's own machine."""
        whole, rest = divmod(rows, self.batch)
        return whole * self.times.batch_seconds(self.batch) + (self.times.batch_seconds(rest) if rest else 0.0)


def planned_seconds(goal: float, max_delay: float = 0.0) -> float:
    """Return the seconds of a latency goal that waiting and answering may take.

    Args:
        goal: Seconds.
        max_delay: Seconds that a request waits for others.

    Raises:
        ServingError: Hardly any is left.
    """
    if (left := _PLANNED * goal - max_delay) < _MIN_PLANNED * goal:
        raise ServingError(
            f"a delay of {1000 * max_delay:g} ms leaves hardly any time within a goal of {1000 * goal:g} ms; "
            "give a shorter one"
        )
    return left


def make_gear(times: PointTimes, planned: float, max_batch: int, slowness: float = 1.0) -> Gear:
    """Return what an operating point carries.

    Args:
        times: Of the point.
        planned: Seconds that waiting and answering may take.
        max_batch: Rows that go together at most.
        slowness: Seconds that a batch takes here over those of the run.
    """
    low, high = 0, max_batch
    while low < high:
        middle = (low + high + 1) // 2
        fits = 2 * slowness * times.batch_seconds(middle) <= planned
        low, high = (middle, high) if fits else (low, middle - 1)
    if not low:
        return Gear(times, max_batch, 0.0)
    a_row = slowness * times.batch_seconds(low) / low
    # the load at which one row in a hundred waits for longer, where samples differ as exponential times do
    busy = planned / 2 / (planned / 2 + _LOG_HUNDRED * a_row)
    return Gear(times, low, busy / a_row)


def gear_table(
    times: Sequence[PointTimes], goal: float, max_batch: int, max_delay: float = 0.0, lowest_point: str | None = None
) -> list[Gear]:
    """Return the gears for a latency goal, the most accurate first; each carries more than those before it.

    Args:
        times: Of all points.
        goal: Seconds that 99 % of the requests of any second may take.
        max_batch: Rows that go together at most.
        max_delay: Seconds that a request waits for others.
        lowest_point: No less accurate point is taken; None allows all.

    Raises:
        ServingError: There is no such point, or the delay leaves hardly any time.
    """
    known = {each.point: each for each in times}
    if lowest_point is not None:
        if lowest_point not in known:
            raise ServingError(
                f"there is no operating point '{lowest_point}' to be the lowest; known are: {', '.join(sorted(known))}"
            )
        limit = known[lowest_point].accuracy_drop
        times = [each for each in times if each.accuracy_drop <= limit]
    planned, gears = planned_seconds(goal, max_delay), list[Gear]()

    def carries(gear: Gear) -> tuple[float, float]:
        return gear.rows_per_second, -gear.times.batch_seconds(max_batch)

    for each in sorted(times, key=lambda each: (each.accuracy_drop, each.batch_seconds(max_batch))):
        gear = make_gear(each, planned, max_batch)
        if not gears or carries(gear) > carries(gears[-1]):
            gears.append(gear)
    return gears


def read_point_times(folder: Path, points: OperatingPoints) -> list[PointTimes]:
    """Read how long batches took at each operating point on the machine of the run.

    Args:
        folder: A folder that ``dynamic-exit run`` wrote.
        points: Its operating points.

    Raises:
        ServingError: The folder has no metrics, or they lack a point.
        ExportError: The metrics cannot be read.
    """
    path = folder / METRICS_FILE
    if not path.is_file():
        raise ServingError(
            f"switching by load needs the times that a run measured, and '{folder}' has no {METRICS_FILE}; serve the "
            "folder that `dynamic-exit run` wrote"
        )
    rows = Metrics.read(path).rows
    return [_times_of(point, rows, path) for point in points.available]


def _times_of(point: OperatingPoint, rows: Sequence[PointFigures], path: Path) -> PointTimes:
    # rows before those of points are the backbone alone, as it ships in the last
    names = [row.name for row in rows if row.accuracy_drop is None]
    name = names[-1] if point.name == BACKBONE and names else point.name
    figures = next((row.seconds_per_sample for row in rows if row.name == name), {})
    if not figures:
        raise ServingError(f"'{path}' has no times of the operating point '{point.name}'; run the recipe anew")
    timed = sorted((int(size), int(size) * each.median) for size, each in figures.items())
    seconds = [max(each for _, each in timed[: place + 1]) for place in range(len(timed))]
    return PointTimes(point.name, point.accuracy_drop, tuple(size for size, _ in timed), tuple(seconds))
