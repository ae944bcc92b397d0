"""The optimizer: from records and goals to configurations, measured operating points and their file."""

import os
from collections.abc import Sequence

import numpy as np

from ..chain.drop_checks import DropCheck, check_drops
from ..chain.evaluation import Configuration, evaluate
from ..chain.goal_limits import explain_excessive_drop
from ..chain.names import FUSES
from ..chain.operating_point import Baseline, Goal, OperatingPoint, OperatingPoints
from ..errors import TuningError
from ..records import Records
from .beam import shortlist
from .choice import Choice, choose, notes_on
from .exit_selection import drop_unhelpful_exits
from .guarantee import certify_boldest, check_probability
from .optimism import estimate_optimism
from .solver import Search

__all__ = ["Goal", "front", "optimize", "split", "tune", "tune_file"]

DEFAULT_DROPS = (0.0, 0.005, 0.01)


def optimize(
    records: Records,
    goals: Sequence[Goal],
    *,
    fuse: str = "mean",
    max_savers: int | None = None,
    seed: int = 0,
    crossfit: bool = True,
) -> list[Configuration]:
    """Find the best configuration for each goal.

    Args:
        records: Samples to search on, seen by neither training nor reporting.
        goals: What to reach.
        fuse: ``none`` or ``mean``.
        max_savers: At most so many savers in use; any number if None.
        seed: Decides whatever is random.
        crossfit: Reach allowed drops on samples that the search has not seen, by asking for less on these; else the
            drops hold on these samples exactly.

    Returns:
        One configuration per goal; the backbone alone where nothing pays off.

    Raises:
        TuningError: A goal that no configuration meets.
    """
    check_options(fuse, max_savers)
    records = shortlist(records, goals, fuse=fuse, max_savers=max_savers, seed=seed)
    if crossfit:
        records = drop_unhelpful_exits(records, goals, fuse=fuse, max_savers=max_savers, seed=seed)
    search = Search(records, fuse, max_savers=max_savers, seed=seed)
    optimism = [0.0] * len(goals)
    if crossfit:
        optimism = estimate_optimism(records, goals, fuse=fuse, max_savers=max_savers, seed=seed)
    return [choice.configuration for choice in _meet(search, goals, optimism)]


def _meet(search: Search, goals: Sequence[Goal], optimism: Sequence[float]) -> list[Choice]:
    choices = choose(search, goals, optimism)
    for goal, choice in zip(goals, choices, strict=True):
        if choice is None:
            raise TuningError(_unmet(search, goal))
    return choices


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
    check_options(fuse, max_savers)
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
        One operating point per goal; with a guarantee, the boldest configuration that passed its test, else the plain
        one without, and the reason in ``warnings``.

    Raises:
        TuningError: A goal that no configuration meets, samples on which nothing can be tuned, or a parameter out of
            its range.
    """
    check_options(fuse, max_savers)
    if guarantee is not None:
        check_probability(guarantee)
        if guarantee_records is None:
            raise TuningError("a guarantee needs calibration samples of its own; pass guarantee_records")
    check_tunable(search_records)
    search_records = shortlist(search_records, goals, fuse=fuse, max_savers=max_savers, seed=seed)
    search_records = drop_unhelpful_exits(search_records, goals, fuse=fuse, max_savers=max_savers, seed=seed)
    search = Search(search_records, fuse, max_savers=max_savers, seed=seed)
    optimism = estimate_optimism(search_records, goals, fuse=fuse, max_savers=max_savers, seed=seed)
    choices = _meet(search, goals, optimism)
    made, notes = [(choice.configuration, None, "") for choice in choices], notes_on(search, goals, choices)
    places = [place for place, goal in enumerate(goals) if goal.max_accuracy_drop is not None]
    if guarantee is not None and places:
        plain = [choices[place].configuration for place in places]
        drops, more = [goals[place].max_accuracy_drop for place in places], [optimism[place] for place in places]
        tested = certify_boldest(search, plain, guarantee_records, drops, guarantee, more)
        for place, each in zip(places, tested, strict=True):
            made[place] = each
            notes += [f"{goals[place].name}: no guarantee, {each[2]}"] if each[2] else []
    points = [
        OperatingPoint.measured(report_records, configuration, name=goal.name, goal=goal, guarantee=promise)
        for goal, (configuration, promise, _) in zip(goals, made, strict=True)
    ]
    alone = evaluate(report_records, Configuration())
    return OperatingPoints(
        cost_unit=report_records.cost_unit,
        baseline=Baseline(accuracy=alone.accuracy, cost=alone.cost),
        points=tuple(points),
        warnings=tuple(notes),
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
    check_options(fuse, max_savers)
    if guarantee is not None:
        check_probability(guarantee)
    goals = goals_from_drops(max_accuracy_drops)
    records = Records.read(records_path)
    check_tunable(records)
    rows = split(len(records), search_fraction, guarantee is not None, seed)
    search, test, report = (records.take(part) if len(part) else None for part in rows)
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


def check_file_drops(
    records_path: str | os.PathLike, points: OperatingPoints, search_fraction: float, guarantee: bool, seed: int
) -> list[DropCheck]:
    """Compare what `tune_file` found with the allowed drops, on the samples that it reported on.

    Args:
        records_path: The records file that was tuned.
        points: What was found.
        search_fraction: Share of the samples that was searched.
        guarantee: Whether samples were kept for the guarantee's test.
        seed: Decided which samples were which.
    """
    records = Records.read(records_path)
    return check_drops(points, records.take(split(len(records), search_fraction, guarantee, seed)[2]))


def goals_from_drops(max_accuracy_drops: Sequence[float]) -> list[Goal]:
    """Return one goal per allowed drop.

    Args:
        max_accuracy_drops: Shares between -1 and 0.2, each once.

    Returns:
        The goals.

    Raises:
        TuningError: A drop is out of range, cannot be meant, or comes twice, or there is none.
    """
    drops = list(max_accuracy_drops)
    if not drops:
        raise TuningError("there is no goal; allow at least one accuracy drop")
    for place, drop in enumerate(drops):
        doubt = explain_excessive_drop(drop)
        if doubt:
            raise TuningError(f"the allowed accuracy drop {doubt}")
        if not drop >= -1:
            raise TuningError(
                f"an allowed accuracy drop is a share between -1 and 0.2, 0.005 is half a point; got {drop:g}"
            )
        if drop in drops[:place]:
            raise TuningError(f"the allowed accuracy drop {drop:g} comes twice; give each once")
    return [Goal(max_accuracy_drop=drop) for drop in drops]


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


def check_options(fuse: str, max_savers: int | None) -> None:
    """Check what the search is asked for.

    Args:
        fuse: What came in.
        max_savers: What came in.

    Raises:
        TuningError: A parameter is out of its range.
    """
    if fuse not in FUSES:
        raise TuningError(f"fuse must be 'none' or 'mean'; got '{fuse}'")
    if max_savers is not None and max_savers < 0:
        raise TuningError(f"max_savers must be 0 or more; got {max_savers}")


def check_tunable(records: Records) -> None:
    """Check that there is something to tune on.

    Args:
        records: The samples.

    Raises:
        TuningError: One sample, one class, or the same confidence everywhere.
    """
    if len(records) < 2:
        raise TuningError(f"{len(records)} sample is too few to tune on; record more")
    labels = np.asarray(records.labels)
    if records.labelled and (labels == labels[0]).all():
        raise TuningError(f"all {len(records)} samples are of class {labels[0]}; record samples of every class")
    sure = records.topk_probabilities[:-1, :, 0]
    if len(sure) and all((stage == sure[0, 0]).all() for stage in sure):
        raise TuningError(
            f"every stage is equally sure of every sample ({sure[0, 0]:g}), so no threshold can part them; "
            "record the probabilities of trained stages"
        )


def _unmet(search: Search, goal: Goal) -> str:
    records = search.records
    if goal.budget is not None:
        least = float((records.own_cost + records.prefix_cost).min() / records.baseline_cost)
        return f"no stage fits a budget of {goal.budget:g} of the backbone's cost; the cheapest costs {least:.4g} of it"
    least = evaluate(records, search.configuration(search.most_accurate())).accuracy_drop
    return (
        f"no configuration keeps the accuracy drop at or under {goal.max_accuracy_drop:g}; "
        f"the least found is {least:.4g}, allow more"
    )
