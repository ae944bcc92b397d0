"""Builds the content of ``metrics.json``; `report.metrics` says what it holds."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ..chain.evaluation import evaluate
from ..chain.names import FINAL
from ..chain.thresholds import ALWAYS_EXIT, NEVER_EXIT, Configuration
from ..guarantee.drop_checks import DropCheck, check_drops, standard_error
from ..guarantee.sample_shift import find_shift
from ..onnx.verification import Agreement
from ..output.environment import current_environment
from ..points.operating_point import OperatingPoints
from ..records import Records
from ..report.details import fingerprint_test, sample_details
from ..report.metrics import (
    CandidateFigures,
    GoalFigures,
    Metrics,
    PointFigures,
    QuantizationFigures,
    StageFigures,
    StageMacs,
    VerificationFigures,
    metrics_schema,
)
from ..report.tables import static_pass_notes
from ..runtime.stages import StageSet
from ..targets.measure import Measured
from ..targets.stage_costs import stage_macs
from ..targets.unsaved_time import unsaved_time
from .replacement import Replacement
from .stages import RecordedBuild
from .static_passes import static_pass_effect
from .static_search.results import StaticSearchResult
from .upgrade.result import UpgradeResult
from .verdict import better_alone, class_losses, unreached

__all__ = ["FinishedModel", "Metrics", "collect_metrics", "metrics_schema"]


@dataclass(frozen=True)
class FinishedModel:
    """A model that is written, verified and measured.

    Attributes:
        stages: Those in use.
        points: The operating points.
        agreements: How well the files agree with the model, by file.
        measured: Its figures on the test samples.
        test: Records of the test samples, of the chain that is written.
        replacement: What a saver has replaced; None if the backbone answers last.
    """

    stages: StageSet
    points: OperatingPoints
    agreements: Mapping[str, Agreement]
    measured: Measured
    test: Records
    replacement: Replacement | None = None


def collect_metrics(
    recorded: RecordedBuild,
    model: FinishedModel,
    found: StaticSearchResult | UpgradeResult | None,
    seconds: float,
) -> Metrics:
    """Put together everything that a run measured.

    Args:
        recorded: All stages that were made, and their records.
        model: The finished model.
        found: The static search or upgrade that found it; None if there was none.
        seconds: What the run took so far.
    """
    build, calibration, test, _ = recorded
    run_inputs, points, measured = build.run_inputs, model.points, model.measured
    search = found if isinstance(found, StaticSearchResult) else None
    upgrade = found.figures(recorded, points) if isinstance(found, UpgradeResult) else None
    effect = None if search else static_pass_effect(run_inputs)
    checks = check_drops(points, model.test, reference=test.topk_classes[-1, :, 0] == test.labelled_truth)
    reference, rows = search or model.replacement, measured.rows
    goal_checks = reference.check_drops(points, model.test) if reference else checks
    if model.replacement:  # all costs are over that of what answers last, and the first row is the backbone
        backbone_ratio = model.replacement.backbone_cost / points.baseline.cost
        rows = [rows[0].model_copy(update={"cost_ratio": backbone_ratio}), *rows[1:]]
    rows = _with_errors(rows, checks, goal_checks)
    macs, shift = stage_macs(model.stages), find_shift(calibration, test)
    split = run_inputs.splits["test"]
    labels, shown = split.labels, run_inputs.recipe.report.samples
    end = None if points.last_stage else unreached(points.points, (*model.stages.spec.names, FINAL))
    return Metrics(
        seed=run_inputs.recipe.seed,
        samples={key: len(samples) for key, samples in run_inputs.splits.items()},
        rows=rows,
        timing=measured.timing,
        saver_seconds=measured.saver_seconds,
        sizes=measured.sizes,
        target=run_inputs.recipe.export.target,
        backbone_numerics=model.stages.numerics,
        notes=[
            *(each.verdict for each in (upgrade.points if upgrade else ())),
            *(*run_inputs.notes, *build.notes, *points.warnings),
            *(each.warning for each in goal_checks if each.exceeds_allowed_drop),
            *class_losses(points.points, model.test, test.topk_classes[-1, :, 0], run_inputs.labels),
            *filter(None, [shift and shift.warning, better_alone(calibration, test), end]),
            *filter(None, [unsaved_time(rows) if calibration.cost_unit == "macs" else None]),
            *static_pass_notes(effect),
        ],
        static_passes=effect,
        numerics=[
            QuantizationFigures(**asdict(each), accuracy_standard_error=share_error(each.accuracy, len(calibration)))
            for each in build.numerics
        ],
        candidates=[
            CandidateFigures(**vars(each), accuracy_standard_error=share_error(each.accuracy, len(calibration)))
            for each in build.candidates
        ],
        candidates_seconds=round(build.candidates_seconds, 1),
        static_search=search.figures(points, goal_checks) if search else None,
        upgrade=upgrade,
        baseline_cost=model.replacement.backbone_cost if model.replacement else points.baseline.cost,
        stages=_stages_alone(calibration),
        multiply_adds=StageMacs(own=dict(macs.own), prefix=dict(macs.prefix)),
        verification={key: VerificationFigures(**vars(each)) for key, each in model.agreements.items()},
        seconds=round(seconds, 1),
        samples_differ=shift is not None,
        class_names=run_inputs.labels,
        class_samples=np.bincount(labels[labels >= 0], minlength=run_inputs.classes).tolist(),
        data_notes=[*run_inputs.notes],
        environment=current_environment(),
        test=fingerprint_test(split.inputs, labels, run_inputs.labels),
        **sample_details(calibration, model.test, points, run_inputs.classes, shown)._asdict(),
    )


def share_error(share: float | None, samples: int) -> float | None:
    """Return the standard error of a share, None if it was not measured."""
    return None if share is None else standard_error(share, samples)


def _with_errors(
    rows: Sequence[PointFigures], checks: Sequence[DropCheck], goal_checks: Sequence[DropCheck]
) -> list[PointFigures]:
    """Return rows with standard errors of accuracies and drops, and whether test samples contradict a goal.

    Args:
        rows: The backbone alone, and every point.
        checks: Points relative to the exported backbone.
        goal_checks: Points relative to what their goals are relative to.
    """
    by_name = {each.name: (each, of_goal) for each, of_goal in zip(checks, goal_checks, strict=True)}
    found = []
    for row in rows:
        update: dict[str, object] = {"accuracy_standard_error": standard_error(row.accuracy, checks[0].samples)}
        if row.name in by_name:
            check, of_goal = by_name[row.name]
            update["accuracy_drop"], update["accuracy_drop_standard_error"] = check.accuracy_drop, check.drop_error
            update["allowed_drop"], update["contradicted"] = of_goal.allowed, of_goal.exceeds_allowed_drop
            if of_goal.risk != "accuracy" or of_goal.groups:
                update["goal"] = _goal_figures(of_goal)
        found.append(row.model_copy(update=update))
    return found


def _goal_figures(check: DropCheck) -> GoalFigures:
    groups = check.groups
    return GoalFigures(
        risk=check.risk,
        risk_increase=check.risk_increase,
        risk_increase_standard_error=check.risk_error,
        limited=groups and groups.what,
        limited_drop=groups and groups.drop,
        limited_drop_standard_error=groups and groups.error,
        max_class_drop=groups and groups.allowed,
    )


def _stages_alone(records: Records) -> list[StageFigures]:
    """How every stage does alone, behind nothing but what it needs, on the samples that were searched."""
    figures = []
    for index, stage in enumerate(records.stages):
        before = tuple((records.stages[saver], NEVER_EXIT) for saver in records.stage_table.required_savers((index,)))
        always = Configuration((*before, (stage, ALWAYS_EXIT)) if stage != records.stages[-1] else ())
        result = evaluate(records, always)
        figures.append(
            StageFigures(
                stage=stage,
                accuracy=result.accuracy,
                cost_ratio=result.cost_ratio,
                backbone_before=float(records.prefix_cost[index] / records.prefix_cost[-1]),
                accuracy_standard_error=standard_error(result.accuracy, len(records)),
            )
        )
    return figures
