"""What is chosen for each goal out of all that was found, with room for the optimism of the search.

On the samples searched a looser goal is never dearer than a stricter one, and a larger budget never less accurate than
a smaller one: every goal chooses among all that was found for any of them, and what is asked of a looser goal is never
more than what is asked of a stricter one. Where the room for the optimism would cost most of what a goal saves, it
gives way, to the most accurate configuration that still saves half as much: that share is the same for every goal.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..chain.evaluation import Configuration, evaluate
from ..chain.operating_point import Goal
from .beam import count_target
from .solver import Search, Solution
from .table import CountTarget

# the room for the optimism takes at most this part of what a goal saves without it
_MOST_TAKEN = 0.5
# optimism shrinks with this power of the number of samples
_SHRINKS = 2 / 3


@dataclass(frozen=True)
class Choice:
    """What is chosen for a goal.

    Attributes:
        configuration: It meets the goal on the samples searched.
        room: How much stricter than the goal the search was asked to be, as a share.
        missing: How much of the room it does not leave; 0 where it leaves all.
        samples_needed: About how many samples would let it leave all; None where it does, or where no number would.
    """

    configuration: Configuration
    room: float = 0.0
    missing: float = 0.0
    samples_needed: int | None = None


@dataclass(frozen=True)
class _Known:
    """A configuration with its figures on the samples searched: right answers, and mean cost over the backbone's."""

    configuration: Configuration
    correct: int
    ratio: float


def choose(search: Search, goals: Sequence[Goal], optimism: Sequence[float]) -> list[Choice | None]:
    """Search for goals and choose for each.

    Args:
        search: The search on all samples.
        goals: What is wanted on samples that the search has not seen.
        optimism: By how much the drop grows from the samples searched to others, per goal; budgets need no room, since
            costs hardly fit noise.

    Returns:
        One choice per goal; None where nothing meets it on the samples searched.
    """
    known = _Pool(search)
    asked = asked_of(goals, optimism)
    known.add(search.run(asked))
    least = float((search.records.own_cost + search.records.prefix_cost).min() / search.records.baseline_cost)
    # where even the most that could be saved leaves the room, there is nothing to weigh
    weighed = [place for place, goal in enumerate(goals) if not known.leaves_room(goal, asked[place], _bound(least))]
    if weighed:
        known.add(search.run([goals[place] for place in weighed]))
        bounds = {known.bound(goals[place]) for place in weighed}
        budgets = [Goal(budget=bound) for bound in sorted(bounds) if np.isfinite(bound)]
        known.add(search.run(budgets) if budgets else [])
        if np.inf in bounds:
            known.add([search.most_accurate()])
    return [known.choice(goal, strict) for goal, strict in zip(goals, asked, strict=True)]


def asked_of(goals: Sequence[Goal], optimism: Sequence[float]) -> list[Goal]:
    """Return what the search is asked for, so that goals hold on other samples.

    Args:
        goals: What is wanted there.
        optimism: Per goal.

    Returns:
        Budgets as they are. Drops less the optimism, but never less than what is asked of a stricter goal: other goals
        can make a point cheaper, not dearer.
    """
    drops = [
        (goal.max_accuracy_drop, max(-1.0, goal.max_accuracy_drop - optimism))
        for goal, optimism in zip(goals, optimism, strict=True)
        if goal.max_accuracy_drop is not None
    ]
    return [
        goal
        if goal.max_accuracy_drop is None
        else Goal(max_accuracy_drop=max(asked for drop, asked in drops if drop <= goal.max_accuracy_drop))
        for goal in goals
    ]


class _Pool:
    """All that was found for any goal, and the backbone alone.

    Args:
        search: What finds.
    """

    def __init__(self, search: Search) -> None:
        self.search, self.known = search, {}
        self._take(Configuration((), search.fuse))

    def add(self, found: Sequence[Solution | None]) -> None:
        """Take what a search found."""
        for each in found:
            if each is not None:
                self._take(self.search.configuration(each))

    def _take(self, configuration: Configuration) -> None:
        if configuration not in self.known:
            figures = evaluate(self.search.records, configuration)
            correct = round(figures.accuracy * len(self.search.records))
            self.known[configuration] = _Known(configuration, correct, figures.cost_ratio)

    def best(self, wanted: CountTarget) -> _Known | None:
        """Return the best of all for a goal in counts; None where nothing meets it."""
        cost = self.search.records.baseline_cost * len(self.search.records)
        keys = {known: wanted.key(known.correct, known.ratio * cost) for known in self.known.values()}
        best = min(keys, key=lambda known: (keys[known], known.configuration.stages))
        return best if np.isfinite(keys[best][0]) else None

    def bound(self, goal: Goal) -> float:
        """Return what a goal may cost at most once room is left, over the backbone's cost."""
        plain = self.best(count_target(self.search.outcomes, goal))
        return np.inf if plain is None else _bound(plain.ratio)

    def leaves_room(self, goal: Goal, asked: Goal, bound: float) -> bool:
        """Return whether something meets what is asked in a goal's place at no more than a cost, or both are one."""
        wanted = count_target(self.search.outcomes, asked)
        best = self.best(wanted)
        return wanted == count_target(self.search.outcomes, goal) or (best is not None and best.ratio <= bound)

    def choice(self, goal: Goal, asked: Goal) -> Choice | None:
        """Choose for a goal, given what the search was asked for in its place."""
        best = self.best(count_target(self.search.outcomes, asked))
        if goal.max_accuracy_drop is None:
            return None if best is None else Choice(best.configuration)
        plain = self.best(count_target(self.search.outcomes, goal))
        if plain is None:
            return None
        room, bound = goal.max_accuracy_drop - asked.max_accuracy_drop, _bound(plain.ratio)
        if best is not None and best.ratio <= bound:
            return Choice(best.configuration, room)
        within = [known for known in self.known.values() if known.ratio <= bound]
        best = min(within, key=lambda known: (-known.correct, known.ratio, known.configuration.stages))
        return Choice(best.configuration, room, *self._missing(goal, asked, best.correct))

    def _missing(self, goal: Goal, asked: Goal, correct: int) -> tuple[float, int | None]:
        samples = len(self.search.records)
        drop = (self.search.outcomes.baseline_correct - correct) / samples
        room, left = goal.max_accuracy_drop - asked.max_accuracy_drop, goal.max_accuracy_drop - drop
        # half a sample more or less is no drop to hold against a number of samples
        needed = int(np.ceil(samples * (room / left) ** (1 / _SHRINKS))) if left > 0.5 / samples else None
        return max(room - left, 0.0), needed


def _bound(ratio: float) -> float:
    # what saves nothing by itself is asked for its accuracy, at any cost
    return 1 - (1 - _MOST_TAKEN) * (1 - ratio) if ratio <= 1 else np.inf


def notes_on(search: Search, goals: Sequence[Goal], choices: Sequence[Choice]) -> list[str]:
    """Say where the samples searched are too few for the goals.

    Args:
        search: The search.
        goals: What was wanted.
        choices: What was chosen for each.

    Returns:
        At most one sentence of each kind.
    """
    samples, notes = len(search.records), []
    pairs = list(zip(goals, choices, strict=True))
    small = [goal for goal in goals if 0 < (goal.max_accuracy_drop or 0) < 1 / samples]
    if small:
        needed = int(np.ceil(1 / min(goal.max_accuracy_drop for goal in small)))
        notes.append(
            f"{_names(small)}: the allowed drop is less than one of the {samples} samples searched, so that none of "
            f"them may be lost; {needed} samples or more are needed"
        )
    short = [choice for _, choice in pairs if choice.missing > 0]
    if short:
        most = max(choice.missing for choice in short)
        needed = [choice.samples_needed for choice in short]
        enough = (
            "no number would be: allow a larger drop" if None in needed else f"about {_about(max(needed))} would be"
        )
        notes.append(
            f"{_names([goal for goal, choice in pairs if choice.missing > 0])}: {samples} samples are not enough to "
            f"make up in full for how far the search fits them; others may lose up to {100 * most:.1f} points more "
            f"than allowed; {enough}"
        )
    off = [goal for goal, choice in pairs if goal.max_accuracy_drop is not None and not choice.configuration.stages]
    if off and search.outcomes.final:
        notes.append(f"{_names(off)}: nothing saves at this drop on the {samples} samples searched; all stages are off")
    return notes


def _names(goals: Sequence[Goal]) -> str:
    return ", ".join(goal.name for goal in goals)


def _about(number: int) -> str:
    # two digits: an estimate is no more exact
    return f"{float(f'{number:.2g}'):,.0f}"
