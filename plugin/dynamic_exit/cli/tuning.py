"""The command `tune`."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from .options import Json, Progress, Requirements, check_guarantee_option, exit_if_unmet
from .render import print_table


@dataclass(frozen=True)
class GoalOptions:
    """What operating points must keep."""

    max_accuracy_drop: Annotated[list[float] | None, typer.Option(help="allowed drop, 0.005 is half a point")] = None
    guarantee: Annotated[float | None, typer.Option(help="probability with which the allowed drop must hold")] = None
    max_class_drop: Annotated[float | None, typer.Option(help="largest drop of any class, or group of records")] = None
    risk: Annotated[str, typer.Option(help="accuracy, top_5, balanced_accuracy, agreement, a file")] = "accuracy"
    max_risk_increase: Annotated[list[float] | None, typer.Option(help="allowed increase of another risk")] = None


@dataclass(frozen=True)
class SearchGroup:
    """What is searched, and on which samples."""

    max_savers: Annotated[int | None, typer.Option(help="maximum number of savers in a chain")] = None
    fuse: Annotated[str, typer.Option(help="auto, none, mean or product: how stages answer together")] = "auto"
    confidence: Annotated[str, typer.Option(help="auto, top1, margin or learned: what says how sure they are")] = "auto"
    search_fraction: Annotated[float, typer.Option(help="fraction of the samples to search on")] = 0.5
    seed: Annotated[int, typer.Option(help="decides how the samples are split")] = 0
    report: Annotated[Path | None, typer.Option(help="records of other samples that figures are to come from")] = None
    unlabelled: Annotated[Path | None, typer.Option(help="records of further samples to search, without labels")] = None


def tune(
    records: Annotated[Path, typer.Argument(help="records.npz")],
    *,
    output: Annotated[Path, typer.Option(help="operating_points.json to write")],
    goals: GoalOptions,
    search: SearchGroup,
    plot: Annotated[Path | None, typer.Option(help="plot of the trade-off to write, such as front.png")] = None,
    required: Requirements,
    as_json: Json = False,
    progress: Progress,
) -> None:
    """Find operating points for records, and report them on samples that were not searched."""
    from ..chain.evidence import Evidence
    from ..guarantee.drop_checks import check_drops, describe_unmet_requirements
    from ..points.goal_limits import allowed_drops
    from ..records import Records, part_records
    from ..records.risk import parse_risk
    from ..report.tables import tuned_points_table
    from ..search.options import SearchOptions
    from ..tuning.optimizer import DEFAULT_DROPS, tune_file

    check_guarantee_option(required.require_guarantee, goals.guarantee, "as --guarantee")
    drops = allowed_drops(goals.risk, goals.max_accuracy_drop, goals.max_risk_increase) or DEFAULT_DROPS
    if plot is not None:
        from ..report.front import check_plot, plot_search

        check_plot(plot)
    with progress.log():
        table, others = Records.read(records), Records.read(search.report) if search.report else None
        further = Records.read(search.unlabelled) if search.unlabelled else None
        risk = parse_risk(goals.risk, max(each.classes for each in (table, others, further) if each))
        evidence = Evidence(search.fuse, search.confidence)
        options = SearchOptions(evidence, search.max_savers, search.seed, risk=risk, unlabelled=further)
        points = tune_file(
            table,
            output,
            options,
            max_accuracy_drops=drops,
            guarantee=goals.guarantee,
            max_class_drop=goals.max_class_drop,
            search_fraction=search.search_fraction,
            report=others,
        )
        parts = part_records(table, search.search_fraction, goals.guarantee is not None, search.seed, others)
        if plot is not None:
            plot_search(parts, points, plot, options)
        judged = check_drops(points, parts.reported.with_risk(risk.fit(parts.reported)))
    exceeding = [each for each in judged if each.exceeds_allowed_drop]
    for warning in (*points.warnings, *(each.warning for each in exceeding)):
        print(f"dynamic-exit: {warning}", file=sys.stderr)
    if as_json:
        print(points.to_json(), end="")
    else:
        print_table(tuned_points_table(points, judged))
    names = [each.name for each in exceeding if required.require_drop]
    exit_if_unmet(describe_unmet_requirements(points, exceeding=names, guarantee=required.require_guarantee))
