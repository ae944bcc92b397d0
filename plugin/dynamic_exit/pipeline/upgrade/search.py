"""The search for the backbone whose chain is right most often, at what the model of today costs."""

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...candidates.backbones import check_larger, survey_backbones
from ...candidates.pool import CandidatePool
from ...candidates.progress import Progress
from ...chain.evaluation import evaluate
from ...chain.names import FINAL
from ...chain.thresholds import Configuration
from ...core import distributed
from ...core.cache import Cache
from ...data.run_inputs import RunInputs
from ...errors import DataError, TuningError
from ...passes import ModelSource
from ...recipe.recipe import Recipe
from ...records import Records
from ...report.figures import UpgradeBackboneFigures
from ...search.options import SearchOptions
from ...targets.stage_costs import stage_costs, time_stages
from ...tuning.kept_budget import keep_budget
from ..exits import add_exits
from ..inputs import load_run_inputs
from ..savers import add_savers
from ..stages import Build, RecordedBuild, add_costs, export_backbone, record_split, recorded_splits
from .result import Today, UpgradeResult, searched_rows

logger = logging.getLogger(__name__)


class _Tried(NamedTuple):
    """A chain with one of the backbones.

    Attributes:
        name: Of the backbone.
        accuracy: Of the chain at the budget, on the samples searched.
        alone: Of the backbone alone, on the same samples.
        build: The chain.
        records: Of the calibration samples.
        pool: The candidates of its savers.
    """

    name: str
    accuracy: float
    alone: float
    build: Build
    records: Records
    pool: CandidatePool | None


def search_backbones(
    run_inputs: RunInputs, cache: Cache, begin: Callable[[], Path], resume: bool, progress: Progress | None = None
) -> tuple[RecordedBuild, UpgradeResult]:
    """Make a chain with each backbone of `upgrade`, and keep the one that is right most often at the budget.

    Only calibration samples decide, and of these only those that test no guarantee.

    Args:
        run_inputs: Of the model of today, and a recipe with `upgrade`.
        cache: Keeps what is made for one backbone and can serve another.
        begin: Called before anything is trained for savers and exits; returns the folder for it.
        resume: Go on with a training of exits that such a folder holds.
        progress: Takes how far the work on candidates is.

    Returns:
        The best chain, with the recipe that leads to it alone, and how all of them did.

    Raises:
        DynamicExitError: A backbone cannot be used, or no chain keeps the budget.
    """
    recipe = run_inputs.recipe
    surveyed = distributed.run_on_all(lambda: survey_backbones(run_inputs, cache))
    today, *builds = _export_all(run_inputs, [source for source, _ in surveyed])
    tuning, work = recipe.dynamic_exit.tuning, begin()
    if tuning.cost == "latency":  # in turn, so that a slow moment of the machine affects all of them
        segments = [stage for build in (today, *builds) for stage in build.stages.segments]
        time_stages({str(place): each for place, each in enumerate(segments)}, cache, tuning.batch_size, tuning.threads)
    cost, *costs = (stage_costs(build.stages, tuning, cache).prefix[FINAL] for build in (today, *builds))
    for build, each in zip(builds, costs, strict=True):
        check_larger(build.run_inputs.recipe.model.stage_name, each / cost)
    tried, missed, ratios = list[_Tried](), list[str](), dict[str, float]()
    for place in np.argsort(costs, kind="stable"):
        source, ratio = builds[place].run_inputs.recipe.model, float(costs[place] / cost)
        logger.info(f"backbone {source.stage_name}: {ratio:.3g} times what the model costs today")
        budgets = [float(goal.budget or 1) / ratio for goal in recipe.point_goals]
        inputs = replace(builds[place].run_inputs, recipe=recipe.upgraded(source, budgets))
        found = _try(
            recipe, replace(builds[place], run_inputs=inputs), cache, work / f"backbone{place}", resume, progress
        )
        ratios[source.stage_name] = ratio
        if isinstance(found, str):
            logger.warning(f"backbone {found}")
            missed.append(found)
        else:
            tried.append(found)
    if not tried:
        raise TuningError(
            f"no chain keeps the budget, which is over what the model costs today ({'; '.join(missed)}); allow "
            "more, or give cheaper candidates"
        )
    best = max(tried, key=lambda each: each.accuracy)  # the first, which is the cheapest, of those that are as good
    others = [record_split(best.build, key) for key in recorded_splits(best.build.run_inputs, best.pool)[1:]]
    correct = [_correct(record_split(today, key)) for key in ("calibration", "test")]
    result = UpgradeResult(
        Today(recipe.model.stage_name, cost, *correct),
        [
            UpgradeBackboneFigures(
                name=each.name,
                cost_ratio=ratios[each.name],
                alone=each.alone,
                accuracy=each.accuracy,
                chosen=each is best,
            )
            for each in tried
        ],
        {str(goal.name): float(goal.budget or 1) for goal in recipe.point_goals},
    )
    return RecordedBuild(best.build, best.records, *others), result


def _export_all(run_inputs: RunInputs, sources: Sequence[ModelSource]) -> list[Build]:
    """Export the model of today in float and in one piece, then every backbone as the recipe says."""
    recipe = run_inputs.recipe
    dynamic = recipe.dynamic_exit.model_copy(update={"early_exit": None})
    alone = recipe.model_copy(update={"quantization": None, "upgrade": None, "dynamic_exit": dynamic})
    today = export_backbone(replace(run_inputs, recipe=alone))
    return [today, *(_export(recipe.upgraded(source), source, run_inputs) for source in sources)]


def _export(recipe: Recipe, source: ModelSource, today: RunInputs) -> Build:
    """Load a backbone with the data in the form that it takes, and export it.

    Raises:
        DataError: The samples are not those of the model of today.
    """
    logger.info(f"backbone {source.stage_name}")
    inputs = distributed.run_on_all(lambda: load_run_inputs(recipe))
    for key in ("calibration", "test"):
        if not _same_labels(today, inputs, key):
            raise DataError(
                f"key 'upgrade.backbones': with '{source.stage_name}' split '{key}' has other labels than with the "
                "model of today; name the classes in `data.classes`"
            )
    return export_backbone(inputs)


def _same_labels(today: RunInputs, larger: RunInputs, key: str) -> bool:
    before, after = (inputs.splits[key].labels for inputs in (today, larger))
    if sorted(today.labels) == sorted(larger.labels):  # else one of them knows numbers alone
        before, after = np.array(today.labels)[before], np.array(larger.labels)[after]
    return np.array_equal(before, after)


def _correct(records: Records) -> np.ndarray:
    return records.topk_classes[-1, :, 0] == records.labelled_truth


def _try(
    today: Recipe, build: Build, cache: Cache, work: Path, resume: bool, progress: Progress | None
) -> _Tried | str:
    """Make a chain with an exported backbone; return the reason in a few words where none keeps the budget."""
    recipe = build.run_inputs.recipe
    name, tuning = recipe.model.stage_name, recipe.dynamic_exit.tuning
    pool = CandidatePool.of(build.run_inputs, cache, progress)
    build = add_savers(build, pool)
    distributed.run_on_main(lambda: work.mkdir(parents=True, exist_ok=True))
    build = add_costs(add_exits(build, work, resume), cache)
    distributed.run_on_main(lambda: shutil.rmtree(work, ignore_errors=True))
    records = record_split(build, "calibration")
    searched = records.take(searched_rows(len(records), tuning.guarantee, recipe.seed)[0])
    options = SearchOptions(recipe.dynamic_exit.evidence, seed=recipe.seed)
    try:
        kept = {str(goal.name): keep_budget(searched, float(goal.budget or 1), options) for goal in tuning.points}
    except TuningError as error:
        return f"'{name}': {error}"
    accuracy, alone = kept[tuning.default_goal].accuracy, evaluate(searched, Configuration()).accuracy
    logger.info(f"backbone {name}: {accuracy:.1%} of calibration samples are right at the budget, {alone:.1%} alone")
    careful = today.upgraded(recipe.model, [each.budget for each in kept.values()])
    build = replace(build, run_inputs=replace(build.run_inputs, recipe=careful))
    return _Tried(name, accuracy, alone, build, records, pool)
