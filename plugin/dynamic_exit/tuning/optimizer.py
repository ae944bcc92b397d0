"""The optimizer: from records and goals to configurations, measured operating points and their file."""

import os
from collections.abc import Sequence

import numpy as np

from ..errors import TuningError
from ..records import Records
from .evaluation import Configuration, evaluate
from .operating_point import Baseline, Goal, OperatingPoint, OperatingPoints
from .search import Search

__all__ = ["Goal", "front", "optimize", "split", "tune", "tune_file"]

DEFAULT_DROPS = (0.0, 0.005, 0.01)


def optimize(
    records: Records, goals: Sequence[Goal], *, fuse: str = "mean", max_savers: int | None = None, seed: int = 0
) -> list[Configuration]:
    """Find the best configuration for each goal on these records.

    Args:
        records: Samples to search on, seen by neither training nor reporting.
        goals: What to reach.
        fuse: ``none`` or ``mean``.
        max_savers: At most so many savers in use; any number if None.
        seed: Decides whatever is random.

    Returns:
        One configuration per goal; the backbone alone where nothing pays off.

    Raises:
        TuningError: A goal that no configuration meets.
    """
    _check_options(fuse, max_savers)
    search = Search(records, fuse, max_savers=max_savers, seed=seed)
    found = search.run(goals)
    for goal, best in zip(goals, found, strict=True):
        if best is None:
            raise TuningError(_unmet(goal))
    return [search.configuration(best) for best in found]


def front(
    records: Records, points: int = 50, *, fuse: str = "mean", max_savers: int | None = None, seed: int = 0
) -> list[Configuration]:
    """Find the front: configurations that none of the others dominates, from cheap to dear.

    Args:
        records: Samples to search on.
        points: How many at most, at least 2.
        fuse: ``none`` or ``mean``.
        max_savers: At most so many savers in use; any number if None.
        seed: Decides whatever is random.

    Returns:
        Configurations whose cost and accuracy on these records rise strictly.

    Raises:
        TuningError: A parameter is out of its range.
    """
    _check_options(fuse, max_savers)
    if points < 2:
        raise TuningError(f"a front has at least 2 points; got {points}")
    search = Search(records, fuse, max_savers=max_savers, seed=seed)
    return [search.configuration(found) for found in search.front(points)]


def tune(
    search_records: Records,
    report_records: Records,
    goals: Sequence[Goal],
    *,
    fuse: str = "mean",
    max_savers: int | None = None,
    seed: int = 0,
    guarantee_records: Records | None = None,
    guarantee: float | None = None,
) -> OperatingPoints:
    """Tune on some samples and report on others.

    Args:
        search_records: Samples to search on.
        report_records: Samples that every reported figure comes from.
        goals: What to reach.
        fuse: ``none`` or ``mean``.
        max_savers: At most so many savers in use; any number if None.
        seed: Decides whatever is random.
        guarantee_records: Samples for the guarantee's test, disjoint from both others.
        guarantee: The wanted probability of keeping the allowed drop, in (0, 1); none if None.

    Returns:
        One operating point per goal.

    Raises:
        TuningError: A goal that no configuration meets.
    """
    found = optimize(search_records, goals, fuse=fuse, max_savers=max_savers, seed=seed)
    points = [
        OperatingPoint.measured(report_records, best, name=goal.name, goal=goal)
        for goal, best in zip(goals, found, strict=True)
    ]
    alone = evaluate(report_records, Configuration())
    return OperatingPoints(
        cost_unit=report_records.cost_unit,
        baseline=Baseline(accuracy=alone.accuracy, cost=alone.cost),
        points=tuple(points),
    )


def tune_file(
    records_path: str | os.PathLike,
    output: str | os.PathLike,
    *,
    max_accuracy_drops: Sequence[float] = DEFAULT_DROPS,
    guarantee: float | None = None,
    max_savers: int | None = None,
    fuse: str = "mean",
    search_fraction: float = 0.5,
    seed: int = 0,
) -> OperatingPoints:
    """Tune a records file and write the operating points; nothing is written on a refusal.

    Args:
        records_path: A records file.
        output: The JSON file to write.
        max_accuracy_drops: One goal each, as shares.
        guarantee: The wanted probability of keeping the allowed drop; none if None.
        max_savers: At most so many savers in use; any number if None.
        fuse: ``none`` or ``mean``.
        search_fraction: The share of samples to search on, in (0, 1); the others are for the guarantee and the report.
        seed: Decides which samples are which.

    Returns:
        What was written.

    Raises:
        RecordsError: The records are malformed.
        TuningError: Nothing can be tuned on them, or a goal is out of reach.
    """
    records = Records.read(records_path)
    parts = split(len(records), search_fraction, guarantee is not None, seed)
    search, test, report = (records.take(rows) if len(rows) else None for rows in parts)
    goals = [Goal(max_accuracy_drop=drop) for drop in max_accuracy_drops]
    points = tune(
        search,
        report,
        goals,
        fuse=fuse,
        max_savers=max_savers,
        seed=seed,
        guarantee_records=test,
        guarantee=guarantee,
    )
    points.write(output)
    return points


def split(
    samples: int, search_fraction: float, guarantee: bool, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Part samples into those for the search, for the guarantee's test and for the report.

    Args:
        samples: How many there are.
        search_fraction: The share for the search, in (0, 1).
        guarantee: Whether half of the others is for a guarantee's test.
        seed: Decides which are which.

    Returns:
        Three rising int64 arrays of rows, disjoint; the second is empty without a guarantee.

    Raises:
        TuningError: A part would be empty.
    """
    if not 0 < search_fraction < 1:
        raise TuningError(f"the search fraction must be between 0 and 1; got {search_fraction:g}")
    order = np.random.default_rng(seed).permutation(samples)
    first = round(samples * search_fraction)
    second = first + ((samples - first) // 2 if guarantee else 0)
    parts = order[:first], order[first:second], order[second:]
    if not len(parts[0]) or not len(parts[2]) or (guarantee and not len(parts[1])):
        raise TuningError(f"{samples} samples are too few to search and to report on different ones; record more")
    return tuple(np.sort(part) for part in parts)


def _check_options(fuse: str, max_savers: int | None) -> None:
    if fuse not in ("none", "mean"):
        raise TuningError(f"fuse must be 'none' or 'mean'; got '{fuse}'")
    if max_savers is not None and max_savers < 0:
        raise TuningError(f"max_savers must be 0 or more; got {max_savers}")


def _unmet(goal: Goal) -> str:
    if goal.budget is not None:
        return f"no stage is cheap enough for a budget of {goal.budget:g} of the backbone; allow more"
    return f"no configuration keeps the accuracy drop at or under {goal.max_accuracy_drop:g}; allow more"
