"""The optimizer: from records and goals to configurations, measured operating points and their file."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

from ..chain.evaluation import evaluate
from ..chain.thresholds import Configuration
from ..errors import TuningError
from ..guarantee import Certificate, certify_boldest, check_probability
from ..points.goal import Goal
from ..points.goal_limits import goals_from_drops
from ..points.operating_point import OperatingPoint, OperatingPoints
from ..points.parts import Baseline
from ..records import Records
from ..records.joining import keep_as_many
from ..records.splits import check_same_chain, check_tunable, part_records
from ..search.beam import shortlist
from ..search.options import SearchOptions
from ..search.solver import Search
from .choice import Choice, run_with_margin, shortage_warnings
from .class_limits import CAUTION, ClassLimits
from .evidence_choice import settle_evidence, unlearned_warnings
from .exit_selection import drop_unhelpful_exits
from .few_labels import settle_labels, unused_warnings
from .optimism import estimate_optimism

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
        return [choice.configuration for choice in _search(_judged(records, options), goals, options).choices]
    records = _judged(records, options)
    options = settle_evidence(records, goals, options)
    search = Search(shortlist(records, goals, options), options)
    return [choice.configuration for choice in _reach(search, goals, [0.0] * len(goals))]


def _judged(records: Records, options: SearchOptions) -> Records:
    """Return records judged by the risk of the options, as they are if they are judged by one already."""
    if records.risk.name != SearchOptions.risk.name:
        return records
    return records.with_risk(options.risk.fit(records))


@dataclass(frozen=True)
class _CrossfitSearch:
    search: Search
    optimism: list[float]
    choices: list[Choice]
    limits: ClassLimits | None
    warnings: list[str]


def _search(records: Records, goals: Sequence[Goal], options: SearchOptions) -> _CrossfitSearch:
    given = options
    options = settle_evidence(records, goals, options)
    records = shortlist(records, goals, options)
    records = drop_unhelpful_exits(records, goals, options)
    options = settle_labels(records, goals, options)
    warnings = unused_warnings(records, goals, given, options)
    search = Search(options.samples_of(records), options)
    # figures stay on labels
    optimism = estimate_optimism(Search(records, options) if options.posterior else search, goals)
    choices = _reach(search, goals, optimism)
    limits = _class_limits(search, goals)
    choices = _limited(limits, goals, choices) if limits else choices
    warnings += shortage_warnings(search, goals, choices)
    return _CrossfitSearch(search, optimism, choices, limits, warnings + (limits.shortages() if limits else []))


def _class_limits(search: Search, goals: Sequence[Goal]) -> ClassLimits | None:
    limits = {goal.max_class_drop for goal in goals if goal.budget is None}
    if len(limits) > 1:
        raise TuningError(f"all goals must have the same max_class_drop; got {', '.join(map(str, limits))}")
    most = limits.pop() if limits else None
    return None if most is None else ClassLimits(search, most)


def _limited(limits: ClassLimits, goals: Sequence[Goal], choices: Sequence[Choice]) -> list[Choice]:
    """Return the choices with those in their place that keep the limits of classes too, at the same margin."""
    places = [place for place, goal in enumerate(goals) if goal.budget is None]
    kept = [choices[place].margin - choices[place].missing for place in places]
    strict = [
        goals[place].allowing(goals[place].allowed_drop - margin) for place, margin in zip(places, kept, strict=True)
    ]
    found = list(choices)
    alone = Configuration((), limits.search.options.fuse.of_stages(()))
    for place, each in zip(places, limits.configurations(strict, [CAUTION] * len(places)), strict=True):
        found[place] = replace(choices[place], configuration=each or alone)
    return found


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
    records = _judged(records, options)
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
    if options.unlabelled is not None:
        check_same_chain(search_records, options.unlabelled, "the unlabelled records")
    others = filter(None, (options.unlabelled, guarantee_records, report_records))
    search_records = keep_as_many(search_records, min(each.kept for each in others))
    risk = options.risk.fit(search_records)
    search_records = search_records.with_risk(risk)
    found = _search(search_records, goals, options)
    certificates = [Certificate(choice.configuration, None, "") for choice in found.choices]
    warnings = unlearned_warnings(search_records, options.fuse) + found.warnings
    places = [place for place, goal in enumerate(goals) if goal.budget is None]
    if guarantee is not None and guarantee_records is not None and places:
        plain = [found.choices[place].configuration for place in places]
        with_drop, optimism = [goals[place] for place in places], [found.optimism[place] for place in places]
        calibration = guarantee_records.with_risk(risk)
        tested = certify_boldest(found.limits or found.search, plain, calibration, with_drop, guarantee, optimism)
        for place, certificate in zip(places, tested, strict=True):
            certificates[place] = certificate
            if certificate.reason:
                warnings.append(f"{goals[place].name}: no guarantee, {certificate.reason}")
    report_records = report_records.with_risk(risk.fit(report_records))
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
    max_class_drop: float | None = None,
    search_fraction: float = 0.5,
    report: Records | None = None,
) -> OperatingPoints:
    """Tune records and write the operating points; nothing is written on an error.

    Args:
        records: The records, or their file.
        output: The JSON file to write.
        options: Of the search; its seed also decides which samples are which.
        max_accuracy_drops: One goal each, as shares; increases of risk if the risk of the options is not accuracy.
        guarantee: The wanted probability of keeping the allowed drop; none if None.
        max_class_drop: The largest drop of any class or group, as a share; no limit if None.
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
    goals = goals_from_drops(max_accuracy_drops, options.risk.name, max_class_drop)
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
    least = evaluate(search.records, search.configuration(search.most_accurate())).risk_increase
    what = "accuracy drop" if goal.max_risk_increase is None else "increase of risk"
    return (
        f"no configuration keeps the {what} at or under {goal.allowed_drop:g}; "
        f"the least found is {least:.4g}, allow more"
    )
