"""The optimizer: from records and goals to configurations, measured operating points and their file."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from ..chain.evaluation import evaluate
from ..chain.goal import Goal
from ..chain.goal_limits import goals_from_drops
from ..chain.operating_point import Baseline, OperatingPoint, OperatingPoints
from ..chain.thresholds import Configuration
from ..errors import TuningError
from ..guarantee import Certificate, certify_boldest, check_probability
from ..records import Records
from ..records.splits import check_tunable, part_records
from .beam import shortlist
from .choice import Choice, run_with_margin, shortage_warnings
from .evidence_choice import settle_evidence, unlearned_warnings
from .exit_selection import drop_unhelpful_exits
from .optimism import estimate_optimism
from .options import SearchOptions
from .solver import Search

DEFAULT_DROPS = (0.0, 0.005, 0.01)
DEFAULT_OPTIONS = SearchOptions()


def optimize(
    records: Records,
    goals: Sequence[Goal],
    options: SearchOptions = DEFAULT_OPTIONS,
    *,
    crossfit: bool = True,
) -> list[Configuration]:
    """Find the best configuration for each goal.

    Args:
        records: Samples to search on, seen by neither training nor reporting.
        goals: What to reach.
        options: Of the search.
        crossfit: Reach allowed drops on samples that the search has not seen, by asking for less on these; else the
            drops hold on these samples exactly.

    Returns:
        One configuration per goal; the backbone alone where nothing pays off.

    Raises:
        TuningError: No configuration meets a goal.
    """
    if crossfit:
        return [choice.configuration for choice in _search(records, goals, options).choices]
    options = settle_evidence(records, goals, options)
    search = Search(shortlist(records, goals, options), options)
    return [choice.configuration for choice in _reach(search, goals, [0.0] * len(goals))]


@dataclass(frozen=True)
class _CrossfitSearch:
    search: Search
    optimism: list[float]
    choices: list[Choice]


def _search(records: Records, goals: Sequence[Goal], options: SearchOptions) -> _CrossfitSearch:
    options = settle_evidence(records, goals, options)
    records = shortlist(records, goals, options)
    records = drop_unhelpful_exits(records, goals, options)
    search = Search(records, options)
    optimism = estimate_optimism(records, goals, options)
    return _CrossfitSearch(search, optimism, _reach(search, goals, optimism))


def _reach(search: Search, goals: Sequence[Goal], optimism: Sequence[float]) -> list[Choice]:
    choices = []
    for goal, choice in zip(goals, run_with_margin(search, goals, optimism), strict=True):
        if choice is None:
            raise TuningError(_explain_unmet(search, goal))
        choices.append(choice)
    return choices


def front(records: Records, points: int = 50, options: SearchOptions = DEFAULT_OPTIONS) -> list[Configuration]:
    """Find the front: configurations that none of the others dominates, from cheap to expensive.

    Args:
        records: Samples to search on.
        points: How many at most, at least 2.
        options: Of the search.

    Returns:
        Configurations whose cost and accuracy on these records rise strictly.

    Raises:
        TuningError: There are too few points.
    """
    if points < 2:
        raise TuningError(f"a front has at least 2 points; got {points}")
    options = settle_evidence(records, goals_from_drops(DEFAULT_DROPS), options)
    search = Search(records, options)
    return [search.configuration(found) for found in search.front(points)]


def tune(
    search_records: Records,
    report_records: Records,
    goals: Sequence[Goal],
    options: SearchOptions = DEFAULT_OPTIONS,
    *,
    guarantee_records: Records | None = None,
    guarantee: float | None = None,
) -> OperatingPoints:
    """Tune on some samples and report on others.

    Args:
        search_records: Samples to search on.
        report_records: Samples that every reported figure comes from.
        goals: What to reach.
        options: Of the search.
        guarantee_records: Samples for the test of the guarantee, disjoint from both others.
        guarantee: The wanted probability of keeping the allowed drop, in (0, 1); none if None.

    Returns:
        One operating point per goal; with a guarantee, the boldest configuration that passed its test, else the plain
        one without, and the reason in ``warnings``.

    Raises:
        TuningError: No configuration meets a goal, nothing can be tuned on the samples, or a parameter is out of its
            range.
    """
    if guarantee is not None:
        check_probability(guarantee)
        if guarantee_records is None:
            raise TuningError("a guarantee needs calibration samples of its own; pass guarantee_records")
    check_tunable(search_records)
    found = _search(search_records, goals, options)
    certificates = [Certificate(choice.configuration, None, "") for choice in found.choices]
    warnings = unlearned_warnings(search_records, options.fuse)
    warnings += shortage_warnings(found.search, goals, found.choices)
    places = [place for place, goal in enumerate(goals) if goal.max_accuracy_drop is not None]
    if guarantee is not None and guarantee_records is not None and places:
        plain = [found.choices[place].configuration for place in places]
        drops, optimism = [goals[place].allowed_drop for place in places], [found.optimism[place] for place in places]
        tested = certify_boldest(found.search, plain, guarantee_records, drops, guarantee, optimism)
        for place, certificate in zip(places, tested, strict=True):
            certificates[place] = certificate
            if certificate.reason:
                warnings.append(f"{goals[place].name}: no guarantee, {certificate.reason}")
    points = [
        OperatingPoint.measure(report_records, each.configuration, name=goal.name, goal=goal, guarantee=each.guarantee)
        for goal, each in zip(goals, certificates, strict=True)
    ]
    backbone = evaluate(report_records, Configuration())
    return OperatingPoints(
        cost_unit=cast(Literal["macs", "seconds"], report_records.cost_unit),
        baseline=Baseline(accuracy=backbone.accuracy, cost=backbone.cost),
        points=tuple(points),
        warnings=tuple(warnings),
    )


def tune_file(
    records: Records | str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: SearchOptions = DEFAULT_OPTIONS,
    *,
    max_accuracy_drops: Sequence[float] = DEFAULT_DROPS,
    guarantee: float | None = None,
    search_fraction: float = 0.5,
    report: Records | None = None,
) -> OperatingPoints:
    """Tune records and write the operating points; nothing is written on an error.

    Args:
        records: The records, or their file.
        output: The JSON file to write.
        options: Of the search; its seed also decides which samples are which.
        max_accuracy_drops: One goal each, as shares.
        guarantee: The wanted probability of keeping the allowed drop; none if None.
        search_fraction: The share of samples to search on, in (0, 1); the others are for the guarantee and the report.
        report: Records of other samples that figures are to come from; all of `records` are then for the search and the
            guarantee.

    Returns:
        What was written.

    Raises:
        RecordsError: The records are malformed, or those of the report are of another chain.
        TuningError: Nothing can be tuned on them, or a goal is out of reach.
    """
    OperatingPoints.check_writable(output)
    if guarantee is not None:
        check_probability(guarantee)
    goals = goals_from_drops(max_accuracy_drops)
    if not isinstance(records, Records):
        records = Records.read(records)
    check_tunable(records)
    parts = part_records(records, search_fraction, guarantee is not None, options.seed, report)
    points = tune(parts.searched, parts.reported, goals, options, guarantee_records=parts.tested, guarantee=guarantee)
    points.write(output)
    return points


def _explain_unmet(search: Search, goal: Goal) -> str:
    if goal.budget is not None:
        return (
            f"no stage fits a budget of {goal.budget:g} of the backbone's cost; "
            f"the cheapest costs {search.least_cost_ratio:.4g} of it"
        )
    least = evaluate(search.records, search.configuration(search.most_accurate())).accuracy_drop
    return (
        f"no configuration keeps the accuracy drop at or under {goal.max_accuracy_drop:g}; "
        f"the least found is {least:.4g}, allow more"
    )
