"""The search for the best stack of static and dynamic under one budget, against the backbone as it was given.

Every static choice's backbone is shipped and measured; savers, exits and thresholds are then made from the cheapest on,
and only where the choice may still win. All that chooses are calibration samples.
"""

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...chain.evaluation import evaluate
from ...chain.operating_point import Goal
from ...core import distributed
from ...core.cache import Cache
from ...core.logging import silenced
from ...errors import DynamicExitError, TuningError
from ...recipe.recipe import Recipe
from ...recipe.static_choices import StaticSearch
from ...recipe.tuning import PointGoal
from ...records import Records
from ...runtime.stages import Stage
from ...search.optimizer import optimize
from ...search.options import SearchOptions
from ...sources.run_inputs import RunInputs
from ..candidates.pool import CandidatePool
from ..measure import time_stages
from ..stages import Build, export_backbone, grow, record_split
from ..static_passes import apply_static_passes
from .variants import StaticSearchResult, StaticVariant, evaluate_baseline

logger = logging.getLogger(__name__)

# a backbone is given up where its loss passes the budget by so many standard errors
_EVIDENCE = 2.0


def search_static(
    run_inputs: RunInputs,
    pool: CandidatePool | None,
    cache: Cache,
    begin: Callable[[], Path],
    resume: bool,
) -> StaticSearchResult:
    """Search the static choices of a recipe for the stack of least cost at the default point's allowed drop.

    Args:
        run_inputs: The backbone as it was given, and a recipe with `tuning.static_search`.
        pool: Candidates for savers; None for none.
        cache: Keeps what is made for one choice and can serve another.
        begin: Called before anything is trained for savers and exits; returns the folder for it.
        resume: Go on with a training of exits that such a folder holds.

    Returns:
        The best stack.

    Raises:
        DynamicExitError: No choice can be made, or none keeps the drop.
    """
    search = _Search(run_inputs, pool, cache)
    search.export_all()
    search.cost_all()
    work = begin()
    for variant in sorted(search.open, key=lambda variant: variant.backbone_cost):
        search.consider(variant, work / f"choice{search.variants.index(variant)}", resume)
    return search.result()


class _Search:
    """One search; arguments as for `search_static`."""

    def __init__(self, run_inputs: RunInputs, pool: CandidatePool | None, cache: Cache):
        self.run_inputs, self.pool, self.cache = run_inputs, pool, cache
        self.recipe: Recipe = run_inputs.recipe
        self.tuning = self.recipe.dynamic_exit.tuning
        self.allowed = self.tuning.max_accuracy_drop
        self.variants = [StaticVariant(choice) for choice in self.recipe.choices]
        self.best: tuple[StaticVariant, Build, Records] | None = None
        # the cheapest candidate's cost, by how it is quantized
        self.cheapest: dict[str, float] = {}
        self.given = evaluate_baseline(run_inputs)

    @property
    def open(self) -> list[StaticVariant]:
        """Variants that are shipped and not out."""
        return [variant for variant in self.variants if variant.chain is not None]

    def export_all(self) -> None:
        """Prune once for each choice of pruning, and ship the backbone of every variant."""
        shrunk: dict[str, RunInputs | DynamicExitError] = {}
        for number, variant in enumerate(self.variants, start=1):
            with _timed(variant):
                logger.info(f"static choice {number} of {len(self.variants)}: {variant.choice.name}")
                recipe = self.recipe.with_static(variant.choice.pruning, variant.choice.quantization)
                pruning = variant.choice.names[0]
                if pruning not in shrunk:
                    shrunk[pruning] = self._apply_static_passes(recipe)
                self._export(variant, recipe, shrunk[pruning])

    def _apply_static_passes(self, recipe: Recipe) -> RunInputs | DynamicExitError:
        run_inputs = replace(self.run_inputs, recipe=recipe)
        if not recipe.static_passes:
            return run_inputs
        try:
            return apply_static_passes(run_inputs, self.cache)
        except DynamicExitError as error:
            return error

    def _export(self, variant: StaticVariant, recipe: Recipe, shrunk: RunInputs | DynamicExitError) -> None:
        try:
            if isinstance(shrunk, DynamicExitError):
                raise shrunk
            chain = export_backbone(replace(shrunk, recipe=recipe))
        except DynamicExitError as error:
            self._drop(variant, f"left out: {error}")
            return
        stages, key = chain.stages, "calibration"
        own, prefix = stages.costs(lambda stage: stage.macs)
        costs = {"own_cost": own, "prefix_cost": prefix, "cost_unit": "macs"}
        with silenced():  # each choice has one line, as each candidate
            records = self.given.with_baseline_labels(record_split(chain, key, costs), key)
        variant.chain, variant.right = chain, records.topk_classes[-1, :, 0] == records.labels

    def cost_all(self) -> None:
        """Find what every backbone costs, seconds of all in turn, and give up those that lose too much."""
        if not self.open:
            first = self.variants[0]
            raise TuningError(f"no choice of tuning.static_search can be made, '{first.choice.name}' is {first.why}")
        cost_of = self._costs()
        self.given = replace(self.given, cost=cost_of(self.given.stage))
        for variant in self.open:
            costs = [cost_of(stage) for stage in variant.chain.stages.segments]
            variant.backbone_cost, variant.first_cost = sum(costs), costs[0]
        for variant in self.open:
            lost = self.given.right("calibration").astype(float) - variant.right
            error = float(lost.std() / np.sqrt(len(lost)))
            if lost.mean() - _EVIDENCE * error > self.allowed:
                self._drop(
                    variant,
                    f"not tried: its backbone alone loses {lost.mean():.2%} ± {_EVIDENCE * error:.2%}, "
                    f"more than the allowed {self.allowed:.2%}",
                )

    def _costs(self) -> Callable[[Stage], float]:
        if self.tuning.cost == "macs":
            return lambda stage: stage.macs
        every = [self.given.stage, *(stage for variant in self.open for stage in variant.chain.stages.segments)]
        names = {id(stage): str(place) for place, stage in enumerate(every)}
        timed = {names[id(stage)]: stage for stage in every}
        seconds = time_stages(timed, self.cache, self.tuning.batch_size, self.tuning.threads)
        return lambda stage: seconds[names[id(stage)]]

    def consider(self, variant: StaticVariant, work: Path, resume: bool) -> None:
        """Try a variant, unless what is known says that it cannot win."""
        reason = self._cannot_win(variant)
        if reason:
            self._drop(variant, f"not tried: {reason}")
            return
        with _timed(variant):
            try:
                self._try(variant, work, resume)
            except DynamicExitError as error:
                self._drop(variant, f"left out: {error}")
        distributed.run_on_main(lambda: shutil.rmtree(work, ignore_errors=True))

    def _cannot_win(self, variant: StaticVariant) -> str | None:
        for other in self.variants:
            if other.cost is not None and other.right.sum() >= variant.right.sum():
                return f"{other.choice.name} has a backbone that costs less and is right as often"
        least = self._least(variant)
        if self.best and least is not None and least >= self.best[0].cost:
            best = self.best[0]
            return (
                f"even its cheapest answer costs {least / self.given.cost:.4f} of the given backbone, the stack of "
                f"{best.choice.name} {best.cost / self.given.cost:.4f}"
            )
        return None

    def _least(self, variant: StaticVariant) -> float | None:
        """What every sample pays at least; None where it is not known yet."""
        least = [variant.backbone_cost]
        if self.recipe.dynamic_exit.early_exit:
            least.append(variant.first_cost)
        if self.pool:
            cheapest = self.cheapest.get(variant.choice.names[1])
            if cheapest is None:
                return None
            least.append(cheapest)
        return min(least)

    def _try(self, variant: StaticVariant, work: Path, resume: bool) -> None:
        chain, goal = variant.chain, self._goal(variant, Goal(max_accuracy_drop=self.allowed))
        logger.info(f"stack on {variant.choice.name}")
        pool = None
        if self.pool:
            drop = max(0.0, goal.max_accuracy_drop)
            pool = self.pool.with_inputs(
                replace(chain.run_inputs, recipe=_tuned(chain.run_inputs.recipe, max_accuracy_drop=drop))
            )
        grow(chain, pool, self.cache, partial(_made, work), resume)
        costs = [row.cost for row in chain.candidates if row.cost is not None]
        if costs:
            self.cheapest[variant.choice.names[1]] = min(costs)
        records = self.given.with_baseline_labels(record_split(chain, "calibration"), "calibration")
        (configuration,) = optimize(records, [goal], SearchOptions(chain.stages.fuse, seed=self.recipe.seed))
        found = evaluate(records, configuration)
        variant.accuracy, variant.cost = found.accuracy, found.cost
        ratio = found.cost / self.given.cost
        variant.why = f"tried: {ratio:.4f} of the given backbone's cost at {found.accuracy:.2%}"
        logger.info(f"stack on {variant.choice.name}: {variant.why}")
        variant.chain = None
        if self.best is None or found.cost < self.best[0].cost:
            self.best = (variant, chain, records)

    def _goal(self, variant: StaticVariant, goal: Goal) -> Goal:
        """A goal against the given backbone as one against the variant's own."""
        if goal.budget is not None:
            return Goal(budget=goal.budget * self.given.cost / variant.backbone_cost)
        drop = goal.max_accuracy_drop - (self.given.accuracy("calibration") - float(variant.right.mean()))
        return Goal(max_accuracy_drop=min(1.0, max(-1.0, drop)))

    def _drop(self, variant: StaticVariant, why: str) -> None:
        variant.chain, variant.why = None, why
        logger.info(f"static choice {variant.choice.name} is {why}")

    def result(self) -> StaticSearchResult:
        """Return the best stack, with the goals that it can reach."""
        if self.best is None:
            said = "; ".join(f"{variant.choice.name} is {variant.why}" for variant in self.variants)
            raise TuningError(
                f"no choice of tuning.static_search keeps the accuracy drop at or under {self.allowed:g}: {said}"
            )
        best, chain, records = self.best
        best.why = best.why.replace("tried", "chosen", 1)
        logger.info(f"best stack: {best.choice.name}")
        stack = StaticSearchResult(chain, self.given, self.variants, best, records)
        reached: list[PointGoal] = []
        for wanted in self.tuning.goals:
            goal = self._goal(best, Goal(max_accuracy_drop=wanted.max_accuracy_drop, budget=wanted.budget))
            try:
                optimize(records, [goal], SearchOptions(chain.stages.fuse, seed=self.recipe.seed), crossfit=False)
            except TuningError as error:
                stack.notes.append(f"{wanted.point_name}: left out, the best stack cannot reach it: {error}")
                logger.warning(stack.notes[-1])
                continue
            reached.append(wanted)
            stack.goals.append(goal)
        # the recipe that leads to this stack alone, with the same meaning of its goals
        found = _tuned(chain.run_inputs.recipe, static_search=StaticSearch(), points=reached)
        chain.run_inputs = replace(chain.run_inputs, recipe=found)
        return stack


def _tuned(recipe: Recipe, **changes: Any) -> Recipe:
    """Return a recipe with other values under `dynamic_exit.tuning`."""
    dynamic = recipe.dynamic_exit
    tuning = dynamic.tuning.model_copy(update=changes)
    return recipe.model_copy(update={"dynamic_exit": dynamic.model_copy(update={"tuning": tuning})})


def _made(work: Path) -> Path:
    distributed.run_on_main(lambda: work.mkdir(parents=True, exist_ok=True))
    return work


@contextlib.contextmanager
def _timed(variant: StaticVariant) -> Iterator[None]:
    """Add the time that a block takes to a variant's."""
    started = time.perf_counter()
    try:
        yield
    finally:
        variant.seconds += time.perf_counter() - started
