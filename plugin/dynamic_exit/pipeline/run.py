"""Runs a recipe: static passes, savers, exits, records, thresholds, one ONNX file, proof, figures, folder."""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from ..artifact.workspace import Workspace
from ..chain.drop_checks import DropCheck, check_drops, with_standard_error
from ..chain.evaluation import Configuration, evaluate
from ..chain.operating_point import Goal, OperatingPoints
from ..chain.thresholds import ALWAYS_EXIT, NEVER_EXIT
from ..core import distributed
from ..core.cache import open_cache
from ..core.logging import log_seconds, silenced
from ..core.process_state import preserve_process_state
from ..core.progress import Progress
from ..errors import DynamicExitError
from ..recipe.recipe import Recipe
from ..records import Records
from ..report.page import static_pass_notes
from ..search.optimizer import tune
from ..search.options import SearchOptions
from ..search.splits import split
from ..sources.data.split import Split
from ..sources.run_inputs import RunInputs
from ..targets.base import assemble
from .candidates.pool import CandidatePool
from .inputs import load_run_inputs
from .measure import measure
from .stages import Build, export_backbone, grow, record_split
from .static_passes import apply_static_passes, static_pass_effect
from .static_search.search import search_static
from .static_search.variants import StaticSearchResult

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What a run made.

    Attributes:
        folder: Where it was written.
        points: The operating points.
        metrics: Everything measured, as in ``metrics.json``.
    """

    folder: Path
    points: OperatingPoints
    metrics: dict[str, Any]

    def to_bytes(self) -> bytes:
        """Return it as JSON, for other processes."""
        return json.dumps([str(self.folder), self.points.to_json(), self.metrics]).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Result":
        """Return what `to_bytes` took."""
        folder, points, metrics = json.loads(content)
        return cls(Path(folder), OperatingPoints.from_json(points), metrics)


@preserve_process_state()
def run(
    recipe: Recipe,
    *,
    model: nn.Module | None = None,
    splits: Mapping[str, Split] | None = None,
    progress: Progress | None = None,
    resume: bool = False,
) -> Result:
    """Run a recipe from its inputs to its folder.

    Where a launcher started several processes (`torchrun`, `accelerate launch`) all must call this alike.

    Args:
        recipe: The recipe.
        model: A classifier to use in place of the recipe's.
        splits: Samples to use in place of the recipe's.
        progress: Takes how far the work on candidates is; None logs it in lines.
        resume: Go on where an interrupted run of this recipe stopped training exits; the result is the same.

    Returns:
        The folder, its operating points and everything measured.

    Raises:
        DynamicExitError: One sentence on what cannot be done and why.
    """
    with distributed.processes():
        if distributed.is_main_process():
            return _run(recipe, model, splits, progress, resume)
        with silenced():
            return _run(recipe, model, splits, lambda what, share: None, resume)


def _run(recipe: Recipe, model, splits, progress: Progress | None, resume: bool) -> Result:
    """Run a recipe; of processes that work together, all train and make records, and the main one does the rest."""
    started = time.perf_counter()
    with Workspace(recipe.export.directory) as workspace:
        with log_seconds(logger, "model and data loaded"):
            run_inputs = distributed.run_on_all(lambda: load_run_inputs(recipe, model, splits))
        run_inputs.log_notes()
        begin = partial(workspace.begin, resume)
        with log_seconds(logger, "all stages and records made"):
            chain, calibration, test, stack = _build(run_inputs, begin, resume, progress)

        def conclude() -> Result:
            workspace.save(calibration)
            try:
                return _conclude(workspace, chain, calibration, test, stack, started)
            except DynamicExitError as error:
                raise type(error)(f"{error} (the records made so far are kept in '{workspace.partial}')") from error

        result = distributed.run_on_main(conclude, Result.to_bytes, Result.from_bytes)
        if not distributed.is_main_process():
            workspace.leave()
        return result


def _build(
    run_inputs: RunInputs, begin: Callable[[], Path], resume: bool, progress: Progress | None
) -> tuple[Build, Records, Records, StaticSearchResult | None]:
    """Make all stages, and the records of calibration and test samples; of the best stack where one is searched."""
    recipe = run_inputs.recipe
    cache = open_cache(recipe.dynamic_exit.cache.directory, recipe.dynamic_exit.cache.enabled)
    if recipe.dynamic_exit.tuning.static_search:
        pool = CandidatePool(run_inputs, cache, progress) if recipe.dynamic_exit.tiny_saver else None
        stack = search_static(run_inputs, pool, cache, begin, resume)
        return stack.chain, stack.calibration, stack.test_records(), stack
    if recipe.static_passes:
        with log_seconds(logger, "static passes"):
            run_inputs = apply_static_passes(run_inputs, cache)
    pool = CandidatePool(run_inputs, cache, progress) if recipe.dynamic_exit.tiny_saver else None
    with log_seconds(logger, "backbone cut and exported"):
        chain = export_backbone(run_inputs)
    with log_seconds(logger, "savers and exits"):
        grow(chain, pool, cache, begin, resume)
    with log_seconds(logger, "records"):
        return chain, record_split(chain, "calibration"), record_split(chain, "test"), None


def _conclude(
    workspace: Workspace,
    chain: Build,
    calibration: Records,
    test: Records,
    stack: StaticSearchResult | None,
    started: float,
) -> Result:
    """Tune, assemble, verify, measure and write what records show."""
    run_inputs = chain.run_inputs
    with log_seconds(logger, "search for operating points"):
        points = _tune(run_inputs, calibration, test, chain.stages.fuse, stack)
    stages = chain.stages.only([stage.stage for point in points.points for stage in point.stages])
    logger.info(f"stages in use: {', '.join((*stages.savers, *stages.exits)) or 'none, nothing pays off'}")
    with log_seconds(logger, "model assembled, written and verified"):
        model = assemble(stages, points, run_inputs, chain.target.dims)
        workspace.save_points(points)
        files = model.write(workspace.partial)
        agreements = model.verify(workspace.partial, files)
    logger.info("verified: at every operating point the file answers as its model does, on every test sample")
    shrunk = None if stack else static_pass_effect(run_inputs)
    judged = check_drops(points, test)
    promised = stack.check_drops(points, test) if stack else judged
    with log_seconds(logger, "accuracy and latency measured"):
        measured = measure(stages, model.files, points, run_inputs)
    metrics = {
        "_type": "dynamic_exit.metrics",
        "_version": 1,
        "seed": run_inputs.recipe.seed,
        "samples": {key: len(samples) for key, samples in run_inputs.splits.items()},
        **measured,
        "rows": _with_errors(measured["rows"], judged, promised),
        "target": run_inputs.recipe.export.target,
        "backbone_numerics": stages.numerics,
        "notes": [
            *(*run_inputs.notes, *chain.notes, *points.warnings),
            *(each.warning for each in promised if each.exceeds_allowed_drop),
            *static_pass_notes(shrunk),
        ],
        "static_passes": shrunk,
        "numerics": [with_standard_error(row, len(calibration)) for row in chain.numerics],
        "candidates": [with_standard_error(vars(candidate), len(calibration)) for candidate in chain.candidates],
        "candidates_seconds": round(chain.candidates_seconds, 1),
        "static_search": stack.figures(points, promised) if stack else None,
        "baseline_cost": points.baseline.cost,
        "stages": _alone(calibration),
        "multiply_adds": dict(zip(("own", "prefix"), stages.costs(lambda stage: stage.macs), strict=True)),
        "verification": {key: vars(agreement) for key, agreement in agreements.items()},
        "seconds": round(time.perf_counter() - started, 1),
    }
    return Result(workspace.finish(run_inputs, stages, files, points, metrics), points, metrics)


def _tune(
    run_inputs: RunInputs, calibration: Records, test: Records, fuse: str, stack: StaticSearchResult | None
) -> OperatingPoints:
    """Search on calibration samples, report on test samples; a guarantee is tested on a part of its own."""
    recipe = run_inputs.recipe
    tuning, proof = recipe.dynamic_exit.tuning, None
    if tuning.guarantee is not None:
        searched, _, proven = split(len(calibration), 0.5, False, recipe.seed)
        calibration, proof = calibration.take(searched), calibration.take(proven)
    goals = [Goal(max_accuracy_drop=goal.max_accuracy_drop, budget=goal.budget) for goal in tuning.goals]
    goals, notes = (stack.goals, stack.notes) if stack else (goals, [])
    options = SearchOptions(fuse, seed=recipe.seed)
    points = tune(calibration, test, goals, options, guarantee_records=proof, guarantee=tuning.guarantee)
    named = [
        point.model_copy(update={"name": goal.point_name})
        for goal, point in zip(tuning.goals, points.points, strict=True)
    ]
    return points.model_copy(update={"points": tuple(named), "warnings": (*points.warnings, *notes)})


def _with_errors(
    rows: Sequence[Mapping[str, Any]], judged: Sequence[DropCheck], promised: Sequence[DropCheck]
) -> list[dict[str, Any]]:
    """Return rows of figures with standard errors of accuracies and drops, and whether test samples contradict a goal.

    Args:
        rows: The backbone alone, and every point.
        judged: Points against the backbone that ships.
        promised: Points against what their goals count from.
    """
    judgements = {each.name: (each, promise) for each, promise in zip(judged, promised, strict=True)}
    found = []
    for row in rows:
        row = with_standard_error(row, judged[0].samples)
        if row["name"] in judgements:
            each, promise = judgements[row["name"]]
            row["accuracy_drop"], row["accuracy_drop_standard_error"] = each.accuracy_drop, each.drop_error
            row["allowed_drop"], row["contradicted"] = promise.allowed, promise.exceeds_allowed_drop
        found.append(row)
    return found


def _alone(records: Records) -> list[dict[str, Any]]:
    """How every stage would do alone, behind nothing but what it needs, on the samples that were searched."""
    figures = []
    for index, stage in enumerate(records.stages):
        before = tuple((records.stages[saver], NEVER_EXIT) for saver in records.stage_table.required_savers((index,)))
        always = Configuration((*before, (stage, ALWAYS_EXIT)) if stage != records.stages[-1] else ())
        result = evaluate(records, always)
        share = float(records.prefix_cost[index] / records.prefix_cost[-1])
        figures.append(
            {"stage": stage, "accuracy": result.accuracy, "cost_ratio": result.cost_ratio, "backbone_before": share}
        )
    return [with_standard_error(row, len(records)) for row in figures]
