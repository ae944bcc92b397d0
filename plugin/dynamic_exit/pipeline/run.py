"""Runs a recipe: static passes, savers, exits, records, thresholds, files, verification, figures, folder."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from ..artifact.manifest import Manifest
from ..candidates.pool import CandidatePool
from ..card import dataset_name, model_card
from ..checks.input_fingerprint import fingerprint_inputs
from ..core import distributed
from ..core.cache import Cache
from ..core.logging import Step, log_step, silenced
from ..core.process_state import preserve_process_state
from ..data.run_inputs import RunInputs
from ..data.split import Split
from ..errors import DynamicExitError, RecipeError
from ..output.workspace import Workspace
from ..points.operating_point import OperatingPoints
from ..recipe.recipe import Recipe
from ..records import Records
from ..report.metrics import Metrics
from ..runtime.recorder import KEPT_CLASSES
from ..sources.models.base import find_origin
from ..targets.base import Target
from ..targets.measure import measure
from .ending import drop_unreached
from .exits import add_exits
from .inputs import load_run_inputs
from .metrics import FinishedModel, collect_metrics
from .points import judged, tune_points
from .replacement import replace_backbone
from .result import OPTIONAL_AS_BYTES, Result
from .savers import add_savers
from .stages import RecordedBuild, add_costs, export_backbone, record_split, recorded_splits
from .static_passes import apply_static_passes
from .static_search.results import StaticSearchResult
from .static_search.search import search_static
from .steps import (
    BACKBONE,
    COSTS,
    EXITS,
    FIGURES,
    FILE,
    LOAD,
    POINTS,
    RECORDS,
    SAVERS,
    STATIC,
    STATIC_SEARCH,
    UPGRADE,
    RunProgress,
)
from .unchanged import find_resumed
from .upgrade import UpgradeResult, search_backbones

logger = logging.getLogger(__name__)

# bytes of card, report, figures, log and what is trained, of a small run
_DOCUMENTS = 1_000_000


@preserve_process_state()
def run(
    recipe: Recipe,
    *,
    model: nn.Module | None = None,
    splits: Mapping[str, Split] | None = None,
    progress: RunProgress | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Result:
    """Run a recipe from its inputs to its folder.

    Where a launcher started several processes (`torchrun`, `accelerate launch`) all must call this alike.

    Args:
        recipe: The recipe.
        model: A classifier to use in place of the recipe's.
        splits: Samples to use in place of the recipe's.
        progress: Follows the run; None logs how far the work on candidates is.
        resume: Go on where an interrupted run of this recipe stopped; the result is the same.
        overwrite: Replace what an earlier run has written to the output, once this run is done.

    Returns:
        The folder, its operating points and everything measured.

    Raises:
        DynamicExitError: One sentence on what cannot be done and why.
    """
    started = time.perf_counter()
    place = (recipe.export.directory, overwrite, resume)
    with distributed.processes(), _helpers_silenced(), Workspace(*place) as workspace:
        given = model is not None or splits is not None
        if given and recipe.upgrade:
            raise RecipeError("`upgrade` takes models and data from the recipe alone; name them there")
        inputs = None if given else distributed.run_on_main(lambda: fingerprint_inputs(recipe))
        if resume and (found := distributed.run_on_main(lambda: find_resumed(workspace, inputs), *OPTIONAL_AS_BYTES)):
            return found
        with log_step(logger, LOAD) as step:
            run_inputs = distributed.run_on_all(lambda: load_run_inputs(recipe, model, splits))
            step.found = _describe_inputs(run_inputs)
        distributed.run_on_main(lambda: workspace.output.check_space(_least_bytes(run_inputs)))
        run_inputs.log_notes()
        cache = recipe.dynamic_exit.cache.open()
        shown = progress if distributed.is_main_process() else None  # helpers log nothing
        if shown:
            shown.loaded(run_inputs)
        recorded, search = _build(run_inputs, cache, partial(workspace.begin, resume), resume, shown)
        result = distributed.run_on_main(
            lambda: _finish(workspace, recorded, search, started, inputs), Result.to_bytes, Result.from_bytes
        )
        if not distributed.is_main_process():
            workspace.leave()
        return result


def _least_bytes(run_inputs: RunInputs) -> int:
    """Return how many bytes are written at least: weights, or what passes may leave of them, records and documents."""
    recipe, model = run_inputs.recipe, run_inputs.backbone
    weights = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    if recipe.quantization or recipe.static_passes or recipe.dynamic_exit.tuning.static_search:
        weights //= 16
    recorded = len(run_inputs.splits["calibration"].labels) * min(KEPT_CLASSES, run_inputs.classes)
    return weights + recorded * np.dtype(np.float32).itemsize + _DOCUMENTS


def _helpers_silenced() -> contextlib.AbstractContextManager[None]:
    """Drop the log of all processes but the main one."""
    return contextlib.nullcontext() if distributed.is_main_process() else silenced()


def _build(
    run_inputs: RunInputs, cache: Cache, begin: Callable[[], Path], resume: bool, progress: RunProgress | None
) -> tuple[RecordedBuild, StaticSearchResult | UpgradeResult | None]:
    """Make all stages and their records, on all processes; of the best stack or backbone if the recipe searches one.

    Args:
        run_inputs: What the recipe names.
        cache: Keeps what is made.
        begin: Called before anything is trained; returns the folder for it.
        resume: Go on with the training that this folder holds.
        progress: Follows the run.
    """
    recipe, follow = run_inputs.recipe, progress.candidates if progress else None
    if recipe.dynamic_exit.tuning.static_search:
        with log_step(logger, STATIC_SEARCH) as step:
            recorded, search = search_static(
                run_inputs, CandidatePool.of(run_inputs, cache, follow), cache, begin, resume
            )
            step.found = search.best.choice.name
        return recorded, search
    if recipe.upgrade:
        with log_step(logger, UPGRADE) as step:
            recorded, upgrade = search_backbones(run_inputs, cache, begin, resume, follow)
            step.found = recorded.build.run_inputs.recipe.model.stage_name
        return recorded, upgrade
    with _step(STATIC, bool(recipe.static_passes)) as step:
        run_inputs = apply_static_passes(run_inputs, cache)
        step.found = ", ".join(recipe.static_passes)
    pool = CandidatePool.of(run_inputs, cache, follow)
    with log_step(logger, BACKBONE) as step:
        build = export_backbone(run_inputs)
        step.found = f"{len(build.stages.segments)} segments in {build.stages.numerics}"
    with _step(SAVERS, pool is not None) as step:
        build = add_savers(build, pool)
        names = ", ".join(build.stages.savers) or "none saves anything"
        step.found = f"{names} out of {len(build.candidates)} candidates"
    with _step(EXITS, recipe.dynamic_exit.early_exit is not None) as step:
        build = add_exits(build, begin(), resume)
        step.found = f"{len(build.stages.exits)} trained"
    with log_step(logger, COSTS) as step:
        build = add_costs(build, cache)
        step.found = f"in {build.costs.unit}"
    with log_step(logger, RECORDS) as step:
        records = [record_split(build, split) for split in recorded_splits(run_inputs, pool)]
        recorded = RecordedBuild(build, *records)
        step.found = f"{sum(map(len, records)):,} samples of {len(recorded.test.stages)} stages"
    return recorded, None


def _step(name: str, taken: bool) -> contextlib.AbstractContextManager[Step]:
    """Log a step if the recipe takes it."""
    return log_step(logger, name) if taken else contextlib.nullcontext(Step(name))


def _describe_inputs(run_inputs: RunInputs) -> str:
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in run_inputs.splits.items())
    return f"{run_inputs.classes} classes; {sizes} samples"


def _finish(
    workspace: Workspace,
    recorded: RecordedBuild,
    search: StaticSearchResult | UpgradeResult | None,
    started: float,
    inputs: str | None,
) -> Result:
    """Tune, assemble, write, verify and measure the model, on the main process."""
    with _records_kept(workspace, recorded.calibration):
        stanza = recorded.build.run_inputs.recipe.dynamic_exit.tiny_saver
        recorded, replacement = replace_backbone(recorded) if stanza and stanza.replace_backbone else (recorded, None)
        recorded = judged(recorded)
        build = recorded.build
        with log_step(logger, POINTS) as step:
            points = tune_points(recorded, search if isinstance(search, StaticSearchResult) else replacement)
            ratios = ", ".join(f"{point.cost_ratio:.3f}" for point in points.points)
            step.found = f"{ratios} of the backbone's cost"
        written_chain = recorded
        if build.run_inputs.recipe.export.drop_unreached:
            written_chain, points = drop_unreached(recorded, points)
            build = written_chain.build
        used = build.stages.select([stage.stage for point in points.points for stage in point.stages])
        stages = used.with_evidence(points.evidence or used.fuse)
        logger.info(f"stages in use: {', '.join((*stages.savers, *stages.exits)) or 'none, nothing pays off'}")
        target = build.target
        assert isinstance(target, Target), "recipes name targets, which also assemble what they export"
        with log_step(logger, FILE) as step:
            model = target.assemble(stages, points, build.run_inputs)
            workspace.save_points(points)
            manifest = model.write(workspace.partial)
            workspace.save_reference(written_chain.test, points, build.run_inputs, manifest)
            agreements = model.verify(workspace.partial, manifest)
            step.found = "answers as its model does"
        logger.info("verified: at every operating point the file answers as its model does, on every test sample")
        with log_step(logger, FIGURES) as step:
            measured = measure(stages, model.files, points, build.run_inputs)
            fastest = max(each for row in measured.rows for each in row.speed_up.values())
            step.found = f"up to {fastest:.1f}x as fast as the backbone in float"
        finished = FinishedModel(stages, points, agreements, measured, written_chain.test, replacement)
        metrics = collect_metrics(recorded, finished, search, time.perf_counter() - started)
        metrics = metrics.model_copy(update={"inputs": inputs})
        card = partial(_card, build.run_inputs.recipe, points, metrics)
        return Result(workspace.finish(build.run_inputs, manifest, metrics, card), points, metrics)


def _card(recipe: Recipe, points: OperatingPoints, metrics: Metrics, manifest: Manifest) -> str:
    title, dataset = Path(recipe.model.name).name, dataset_name(recipe.data.path)
    return model_card(title, manifest, points, metrics, find_origin(recipe.model), dataset)


@contextlib.contextmanager
def _records_kept(workspace: Workspace, records: Records) -> Iterator[None]:
    """Write records, and say where they are if the work with them fails."""
    workspace.save(records)
    try:
        yield
    except DynamicExitError as error:
        raise type(error)(f"{error} (the records made so far are kept in '{workspace.partial}')") from error
