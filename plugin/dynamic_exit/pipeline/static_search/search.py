"""The search for the best stack of static choice, savers and exits, relative to the backbone as it came.

Every static choice's backbone is exported and measured. Savers, exits and thresholds are then made from the cheapest
backbone on, and only if the choice may still win. Only calibration samples decide.
"""

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...candidates.pool import CandidatePool
from ...chain.evaluation import evaluate
from ...core import distributed
from ...core.cache import Cache
from ...core.logging import silenced
from ...data.run_inputs import RunInputs
from ...errors import DynamicExitError, TuningError
from ...points.goal import Goal
from ...recipe.recipe import Recipe
from ...recipe.static_choices import StaticSearch
from ...recipe.tuning import PointGoal
from ...records import Records
from ...runtime.stages import Stage
from ...search.options import SearchOptions
from ...targets.stage_costs import time_stages
from ...tuning.optimizer import optimize
from ..exits import add_exits
from ..savers import add_savers
from ..stages import Build, RecordedBuild, add_costs, export_backbone, record_split
from ..static_passes import apply_static_passes
from .results import StackResult, StaticSearchResult, StaticVariant, VariantBackbone, evaluate_baseline

logger = logging.getLogger(__name__)

# a backbone is given up if its loss is beyond the allowed drop by this many standard errors
_STANDARD_ERRORS = 2.0


def search_static(
    run_inputs: RunInputs, pool: CandidatePool | None, cache: Cache, begin: Callable[[], Path], resume: bool
) -> tuple[RecordedBuild, StaticSearchResult]:
    """Search the static choices of a recipe for the stack of least cost at the default point's allowed drop.

    Args:
        run_inputs: The backbone as it came, and a recipe with `tuning.static_search`.
        pool: Candidates for savers; None for none.
        cache: Keeps what is made for one choice and can serve another.
        begin: Called before anything is trained for savers and exits; returns the folder for it.
        resume: Go on with a training of exits that such a folder holds.

    Returns:
        The best stack, with the recipe that leads to it alone, and what the search found.

    Raises:
        DynamicExitError: No choice can be made, or none keeps the drop.
    """
    search = _Search(run_inputs, pool, cache)
    search.export_all()
    search.cost_all()
    work = begin()
    for place, candidate in sorted(enumerate(search.variants), key=lambda pair: _backbone_cost(pair[1])):
        if candidate.build is not None:
            search.consider(candidate, work / f"choice{place}", resume)
    return search.result()


def _backbone_cost(variant: StaticVariant) -> float:
    return np.inf if variant.backbone is None else variant.backbone.cost


class _Open(NamedTuple):
    """A variant that is exported and may still win."""

    variant: StaticVariant
    build: Build
    backbone: VariantBackbone


class _Best(NamedTuple):
    """The best stack so far, with its records of the calibration split."""

    variant: StaticVariant
    stack: StackResult
    build: Build
    records: Records


class _Search:
    """One search; arguments as for `search_static`."""

    def __init__(self, run_inputs: RunInputs, pool: CandidatePool | None, cache: Cache):
        self.run_inputs, self.pool, self.cache = run_inputs, pool, cache
        self.recipe: Recipe = run_inputs.recipe
        self.tuning = self.recipe.dynamic_exit.tuning
        self.allowed = self.tuning.max_accuracy_drop
        self.variants = [StaticVariant(choice) for choice in self.recipe.choices]
        self.best: _Best | None = None
        # the cheapest candidate's cost, by how it is quantized
        self.cheapest: dict[str, float] = {}
        self.baseline = evaluate_baseline(run_inputs)

    def _open(self) -> list[_Open]:
        pairs = ((variant, variant.build, variant.backbone) for variant in self.variants)
        return [_Open(variant, build, backbone) for variant, build, backbone in pairs if build and backbone]

    def export_all(self) -> None:
        """Prune once for each choice of pruning, and export the backbone of every variant."""
        pruned: dict[str, RunInputs | DynamicExitError] = {}
        for number, variant in enumerate(self.variants, start=1):
            with _timed(variant):
                logger.info(f"static choice {number} of {len(self.variants)}: {variant.choice.name}")
                recipe = self.recipe.with_static(variant.choice.pruning, variant.choice.quantization)
                name = variant.choice.names[0]
                if name not in pruned:
                    pruned[name] = self._apply_static_passes(recipe)
                self._export(variant, recipe, pruned[name])

    def _apply_static_passes(self, recipe: Recipe) -> RunInputs | DynamicExitError:
        try:
            return apply_static_passes(replace(self.run_inputs, recipe=recipe), self.cache)
        except DynamicExitError as error:
            return error

    def _export(self, variant: StaticVariant, recipe: Recipe, pruned: RunInputs | DynamicExitError) -> None:
        try:
            if isinstance(pruned, DynamicExitError):
                raise pruned
            build = export_backbone(replace(pruned, recipe=recipe))
        except DynamicExitError as error:
            self._drop(variant, f"left out: {error}")
            return
        with silenced():  # each choice logs one line, as each candidate does
            records = self._records(build)
        macs = [stage.macs for stage in build.stages.segments]
        correct = records.topk_classes[-1, :, 0] == records.labels
        variant.build, variant.backbone = build, VariantBackbone(correct, sum(macs), macs[0])

    def _records(self, build: Build) -> Records:
        return self.baseline.with_baseline_labels(record_split(build, "calibration"), "calibration")

    def cost_all(self) -> None:
        """Find what every backbone costs, measured in turn if in seconds, and give up those that lose too much."""
        if not self._open():
            first = self.variants[0]
            raise TuningError(f"no choice of tuning.static_search can be made, '{first.choice.name}' is {first.why}")
        cost_of = self._costs()
        self.baseline = replace(self.baseline, cost=cost_of(self.baseline.stage))
        for variant, build, backbone in self._open():
            costs = [cost_of(stage) for stage in build.stages.segments]
            variant.backbone = replace(backbone, cost=sum(costs), first_cost=costs[0])
        for variant, _, backbone in self._open():
            lost = self.baseline.correct("calibration").astype(float) - backbone.correct
            error = _STANDARD_ERRORS * float(lost.std() / np.sqrt(len(lost)))
            if lost.mean() - error > self.allowed:
                loses = f"its backbone alone loses {lost.mean():.2%} ± {error:.2%}"
                self._drop(variant, f"not tried: {loses}, more than the allowed {self.allowed:.2%}")

    def _costs(self) -> Callable[[Stage], float]:
        if self.tuning.cost == "macs":
            return lambda stage: stage.macs
        segments = [stage for each in self._open() for stage in each.build.stages.segments]
        every = [self.baseline.stage, *segments]
        names = {id(stage): str(place) for place, stage in enumerate(every)}
        timed = {names[id(stage)]: stage for stage in every}
        seconds = time_stages(timed, self.cache, self.tuning.batch_size, self.tuning.threads)
        return lambda stage: seconds[names[id(stage)]]

    def consider(self, variant: StaticVariant, work: Path, resume: bool) -> None:
        """Try a variant, unless what is known says that it cannot win.

        Args:
            variant: One that may still win.
            work: Folder for what a training of exits keeps.
            resume: Go on with the training that it holds.
        """
        build, backbone = variant.build, variant.backbone
        assert build is not None and backbone is not None, "only variants that are exported are considered"
        reason = self._cannot_win(variant, backbone)
        if reason:
            self._drop(variant, f"not tried: {reason}")
            return
        with _timed(variant):
            try:
                self._try(_Open(variant, build, backbone), work, resume)
            except DynamicExitError as error:
                self._drop(variant, f"left out: {error}")
        distributed.run_on_main(lambda: shutil.rmtree(work, ignore_errors=True))

    def _cannot_win(self, variant: StaticVariant, backbone: VariantBackbone) -> str | None:
        for other in self.variants:
            if other.stack and other.backbone and other.backbone.correct.sum() >= backbone.correct.sum():
                return f"{other.choice.name} has a backbone that costs less and is right as often"
        least = self._least_cost(variant, backbone)
        if self.best and least is not None and least >= self.best.stack.cost:
            given, best = self.baseline.cost, self.best
            return (
                f"even its cheapest answer costs {least / given:.4f} of the given backbone, the stack of "
                f"{best.variant.choice.name} {best.stack.cost / given:.4f}"
            )
        return None

    def _least_cost(self, variant: StaticVariant, backbone: VariantBackbone) -> float | None:
        """What every sample costs at least; None if it is not known yet."""
        least = [backbone.cost]
        if self.recipe.dynamic_exit.early_exit:
            least.append(backbone.first_cost)
        if self.pool:
            cheapest = self.cheapest.get(variant.choice.names[1])
            if cheapest is None:
                return None
            least.append(cheapest)
        return min(least)

    def _try(self, opened: _Open, work: Path, resume: bool) -> None:
        variant, build, backbone = opened
        drop = self._shifted_drop(self.allowed, backbone)
        logger.info(f"stack on {variant.choice.name}")
        pool = None
        if self.pool:
            recipe = _with_tuning(build.run_inputs.recipe, max_accuracy_drop=max(0.0, drop))
            pool = self.pool.with_inputs(replace(build.run_inputs, recipe=recipe))
        build = add_savers(build, pool)
        distributed.run_on_main(lambda: work.mkdir(parents=True, exist_ok=True))
        build = add_costs(add_exits(build, work, resume), self.cache)
        costs = [row.cost for row in build.candidates if row.cost is not None]
        if costs:
            self.cheapest[variant.choice.names[1]] = min(costs)
        records = self._records(build)
        goal = Goal(max_accuracy_drop=drop)
        (configuration,) = optimize(records, [goal], SearchOptions(build.stages.fuse, seed=self.recipe.seed))
        found = evaluate(records, configuration)
        stack = variant.stack = StackResult(found.accuracy, found.cost)
        ratio = found.cost / self.baseline.cost
        variant.why = f"tried: {ratio:.4f} of the given backbone's cost at {found.accuracy:.2%}"
        logger.info(f"stack on {variant.choice.name}: {variant.why}")
        variant.build = None
        if self.best is None or stack.cost < self.best.stack.cost:
            self.best = _Best(variant, stack, build, records)

    def _shifted_drop(self, allowed: float, backbone: VariantBackbone) -> float:
        """An allowed drop below the baseline as one below the variant's own backbone, in -1..1."""
        drop = allowed - (self.baseline.accuracy("calibration") - float(backbone.correct.mean()))
        return min(1.0, max(-1.0, drop))

    def _shifted_goal(self, wanted: PointGoal, backbone: VariantBackbone) -> Goal:
        """A goal relative to the baseline as one relative to the variant's own backbone."""
        if wanted.budget is not None:
            return Goal(budget=wanted.budget * self.baseline.cost / backbone.cost)
        return Goal(max_accuracy_drop=self._shifted_drop(wanted.max_accuracy_drop or 0.0, backbone))

    def _drop(self, variant: StaticVariant, why: str) -> None:
        variant.build, variant.why = None, why
        logger.info(f"static choice {variant.choice.name} is {why}")

    def result(self) -> tuple[RecordedBuild, StaticSearchResult]:
        """Return the best stack, with the goals that it can reach."""
        if self.best is None:
            reasons = "; ".join(f"{variant.choice.name} is {variant.why}" for variant in self.variants)
            raise TuningError(
                f"no choice of tuning.static_search keeps the accuracy drop at or under {self.allowed:g}: {reasons}"
            )
        best, _, build, records = self.best
        assert best.backbone is not None, "a stack has a backbone"
        best.why = best.why.replace("tried", "chosen", 1)
        logger.info(f"best stack: {best.choice.name}")
        reached: list[PointGoal] = []
        goals: list[Goal] = []
        notes: list[str] = []
        for wanted in self.tuning.goals:
            goal = self._shifted_goal(wanted, best.backbone)
            try:
                optimize(records, [goal], SearchOptions(build.stages.fuse, seed=self.recipe.seed), crossfit=False)
            except TuningError as error:
                notes.append(f"{wanted.point_name}: left out, the best stack cannot reach it: {error}")
                logger.warning(notes[-1])
                continue
            reached.append(wanted)
            goals.append(goal)
        # the recipe that leads to this stack alone; its goals keep their meaning
        recipe = _with_tuning(build.run_inputs.recipe, static_search=StaticSearch(), points=reached)
        build = replace(build, run_inputs=replace(build.run_inputs, recipe=recipe))
        test = self.baseline.with_baseline_labels(record_split(build, "test"), "test")
        return RecordedBuild(build, records, test), StaticSearchResult(self.baseline, self.variants, best, goals, notes)


def _with_tuning(recipe: Recipe, **changes: object) -> Recipe:
    """Return a recipe with other values under `dynamic_exit.tuning`."""
    dynamic = recipe.dynamic_exit
    tuning = dynamic.tuning.model_copy(update=changes)
    return recipe.model_copy(update={"dynamic_exit": dynamic.model_copy(update={"tuning": tuning})})


@contextlib.contextmanager
def _timed(variant: StaticVariant) -> Iterator[None]:
    """Add the time that a block takes to a variant's."""
    started = time.perf_counter()
    try:
        yield
    finally:
        variant.seconds += time.perf_counter() - started
