"""The choice for each goal among all that was found, with a margin for the optimism of the search.

On the samples searched, a looser goal never costs more than a stricter one, and a larger budget is never less accurate
than a smaller one: every goal chooses among all that was found for any of them, and the target of a looser goal is
never stricter than that of a stricter one. Where the margin would cost most of what a goal saves, it gives way, to the
most accurate configuration that still saves half as much: that share is the same for every goal.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..chain.evaluation import evaluate
from ..chain.thresholds import Configuration
from ..points.goal import Goal
from ..search.solver import Search, Solution
from ..search.targets import CountTarget, count_target

# the margin takes at most this share of what a goal saves without it
_MAX_SHARE_OF_SAVING = 0.5
# optimism shrinks with this power of the number of samples
_OPTIMISM_POWER = 2 / 3


@dataclass(frozen=True)
class Choice:
    """The choice for a goal.

    Attributes:
        configuration: It meets the goal on the samples searched.
        margin: How much stricter the target of the search was than the goal, as a share.
        missing: How much of the margin it does not keep; 0 if it keeps all.
        samples_needed: About how many samples would let it keep all; None if it does, or if no number would.
    """

    configuration: Configuration
    margin: float = 0.0
    missing: float = 0.0
    samples_needed: int | None = None


@dataclass(frozen=True)
class _Known:
    """A configuration with its correct answers on the samples searched and its mean cost over the backbone's."""

    configuration: Configuration
    correct: float
    ratio: float


def run_with_margin(search: Search, goals: Sequence[Goal], optimism: Sequence[float]) -> list[Choice | None]:
    """Search for goals with a margin for optimism, and choose for each.

    Args:
        search: The search on all samples.
        goals: What to reach on samples that the search has not seen.
        optimism: By how much the drop grows from the samples searched to others, per goal; budgets need no margin,
            since costs hardly fit noise.

    Returns:
        One choice per goal; None if nothing meets it on the samples searched.
    """
    known = _KnownConfigurations(search)
    strict_goals = goals_with_margin(goals, optimism)
    known.add(search.run(strict_goals))
    least = search.least_cost_ratio
    # where even the largest possible saving leaves the margin, there is nothing to weigh
    weighed = [
        goal
        for goal, strict in zip(goals, strict_goals, strict=True)
        if not known.keeps_margin(goal, strict, _cost_bound(least))
    ]
    if weighed:
        known.add(search.run(weighed))
        bounds = {known.cost_bound(goal) for goal in weighed}
        budgets = [Goal(budget=bound) for bound in sorted(bounds) if np.isfinite(bound)]
        known.add(search.run(budgets) if budgets else [])
        if np.inf in bounds:
            known.add([search.most_accurate()])
    return [known.choose(goal, strict) for goal, strict in zip(goals, strict_goals, strict=True)]


def goals_with_margin(goals: Sequence[Goal], optimism: Sequence[float]) -> list[Goal]:
    """Return the goals that the search is given, so that the wanted ones hold on other samples.

    Args:
        goals: What to reach there.
        optimism: Per goal.

    Returns:
        Budgets as they are. Drops less the optimism, but never less than the drop for a stricter goal: other goals can
        make a point cheaper, not more expensive.
    """
    drops = [
        (goal.allowed_drop, max(-1.0, goal.allowed_drop - margin))
        for goal, margin in zip(goals, optimism, strict=True)
        if goal.budget is None
    ]
    return [
        goal
        if goal.budget is not None
        else goal.allowing(max(strict for drop, strict in drops if drop <= goal.allowed_drop))
        for goal in goals
    ]


class _KnownConfigurations:
    """All configurations that were found for any goal, and the backbone alone.

    Args:
        search: The search that finds them.
    """

    def __init__(self, search: Search) -> None:
        self.search = search
        self.known: dict[Configuration, _Known] = {}
        self._evaluate(Configuration((), search.options.fuse.of_stages(())))

    def add(self, solutions: Sequence[Solution | None]) -> None:
        """Add what a search found."""
        for each in solutions:
            if each is not None:
                self._evaluate(self.search.configuration(each))

    def _evaluate(self, configuration: Configuration) -> None:
        if configuration not in self.known:
            figures = evaluate(self.search.records, configuration)
            correct = float(figures.worth.sum())
            self.known[configuration] = _Known(configuration, correct, figures.cost_ratio)

    def _target(self, goal: Goal) -> CountTarget:
        return count_target(self.search.outcomes, goal)

    def _best(self, target: CountTarget) -> _Known | None:
        cost = self.search.records.baseline_cost * len(self.search.records)
        keys = {known: target.key(known.correct, known.ratio * cost) for known in self.known.values()}
        best = min(keys, key=lambda known: (keys[known], known.configuration.stages))
        return best if np.isfinite(keys[best][0]) else None

    def cost_bound(self, goal: Goal) -> float:
        """Return what a goal may cost at most with its margin, over the backbone's cost."""
        plain = self._best(self._target(goal))
        return np.inf if plain is None else _cost_bound(plain.ratio)

    def keeps_margin(self, goal: Goal, strict: Goal, bound: float) -> bool:
        """Return whether something meets the strict goal at no more than a cost, or both goals are the same."""
        best = self._best(self._target(strict))
        return self._target(strict) == self._target(goal) or (best is not None and best.ratio <= bound)

    def choose(self, goal: Goal, strict: Goal) -> Choice | None:
        """Choose for a goal, given the strict goal that was searched in its place."""
        best = self._best(self._target(strict))
        if goal.budget is not None:
            return None if best is None else Choice(best.configuration)
        plain = self._best(self._target(goal))
        if plain is None:
            return None
        margin, bound = goal.allowed_drop - strict.allowed_drop, _cost_bound(plain.ratio)
        if best is not None and best.ratio <= bound:
            return Choice(best.configuration, margin)
        within = [known for known in self.known.values() if known.ratio <= bound]
        best = min(within, key=lambda known: (-known.correct, known.ratio, known.configuration.stages))
        return Choice(best.configuration, margin, *self._missing(goal, margin, best.correct))

    def _missing(self, goal: Goal, margin: float, correct: float) -> tuple[float, int | None]:
        samples = len(self.search.records)
        drop = (self.search.outcomes.baseline_correct - correct) / samples
        left = goal.allowed_drop - drop
        # half a sample more or less says nothing about a number of samples
        needed = int(np.ceil(samples * (margin / left) ** (1 / _OPTIMISM_POWER))) if left > 0.5 / samples else None
        return max(margin - left, 0.0), needed


def _cost_bound(ratio: float) -> float:
    # what saves nothing by itself may have its accuracy at any cost
    return 1 - (1 - _MAX_SHARE_OF_SAVING) * (1 - ratio) if ratio <= 1 else np.inf


def shortage_warnings(search: Search, goals: Sequence[Goal], choices: Sequence[Choice]) -> list[str]:
    """Return warnings about goals that the samples searched are too few for.

    Args:
        search: The search.
        goals: What to reach.
        choices: The choice for each.

    Returns:
        At most one sentence of each kind.
    """
    samples, warnings = len(search.records), []
    pairs = list(zip(goals, choices, strict=True))
    small = [goal for goal in goals if goal.budget is None and 0 < goal.allowed_drop < 1 / samples]
    if small:
        needed = int(np.ceil(1 / min(goal.allowed_drop for goal in small)))
        warnings.append(
            f"{_names(small)}: the allowed drop is less than one of the {samples} samples searched, so that none of "
            f"them may be lost; {needed} samples or more are needed"
        )
    short = [(goal, choice) for goal, choice in pairs if choice.missing > 0]
    if short:
        most = max(choice.missing for _, choice in short)
        numbers = [choice.samples_needed for _, choice in short if choice.samples_needed is not None]
        enough = (
            f"about {_about(max(numbers))} would be"
            if len(numbers) == len(short)
            else "no number would be: allow a larger drop"
        )
        warnings.append(
            f"{_names([goal for goal, _ in short])}: {samples} samples are not enough to "
            f"make up in full for how far the search fits them; others may lose up to {100 * most:.1f} points more "
            f"than allowed; {enough}"
        )
    off = [goal for goal, choice in pairs if goal.budget is None and not choice.configuration.stages]
    if off and search.outcomes.final:
        warnings.append(
            f"{_names(off)}: nothing saves at this drop on the {samples} samples searched; all stages are off"
        )
    return warnings


def _names(goals: Sequence[Goal]) -> str:
    return ", ".join(goal.name for goal in goals)


def _about(number: int) -> str:
    # two digits: an estimate is no more exact
    return f"{float(f'{number:.2g}'):,.0f}"
