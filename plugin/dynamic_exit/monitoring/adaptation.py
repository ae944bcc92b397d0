"""Re-tunes thresholds where traffic has moved, without labels: by agreement with the backbone, which is promised.

Of a share of calls the answers of all stages and of the backbone are known. Until they have certified thresholds, the
backbone answers. The k-th choice of candidates has the level (1 - probability) / (k (k + 1)), which add up to
1 - probability: with at least `probability` no thresholds that break the promise are ever used (`certifying`), as long
as traffic stays as it was when they were certified. They are tested on; where answers differ too often after all, the
backbone takes over and all begins anew.
"""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ..chain.thresholds import ALWAYS_EXIT, NEVER_EXIT, STAGE_OFF
from ..drift.conformal import Martingale
from ..errors import MonitorError
from .certifying import Choice
from .retuning import StageAnswers, candidate_path
from .status import AdaptationStatus, Change

logger = logging.getLogger(__name__)

#: What answers are said to be from while adapted thresholds are in use.
ADAPTED = "adapted"
# checked answers that are kept, the latest; a choice is made on them
_KEPT = 2_000
_CANDIDATES = 10
# a change that saves less of the backbone's cost is not worth one
_LEAST_GAIN = 0.01
# answers that test a choice at most, over those that it was made on
_TESTED = 2
_BELOW_ONE = np.nextafter(1.0, 0.0)


class Adaptation:
    """Re-tunes the thresholds of a watched model after an alarm; hand it to a `Monitor`.

    It is safe from any thread.

    Args:
        agreement: The share of answers that must be the backbone's, in (0, 1); None: as many as those of the operating
            point on test samples.
        probability: That no thresholds are ever used that break this promise, in (0, 1), over its whole life; restarts
            share it.
        samples: Checked answers after an alarm on which the first choice is made.

    Raises:
        MonitorError: An option is out of its range.
    """

    def __init__(self, agreement: float | None = None, *, probability: float = 0.95, samples: int = 250):
        if agreement is not None and not 0 < agreement < 1:
            raise MonitorError(f"the agreement must be a share between 0 and 1, such as 0.98; got {agreement}")
        if not 0 < probability < 1:
            raise MonitorError(f"the probability must be between 0 and 1, such as 0.95; got {probability}")
        if not 1 <= samples <= _KEPT:
            raise MonitorError(f"samples must be a number of answers in 1..{_KEPT}; got {samples}")
        self.agreement, self.probability, self.samples = agreement, probability, samples
        self._lock = threading.RLock()
        self._checked = self._choices = self._guards = 0
        self._changes: list[Change] = []
        self._stages: tuple[str, ...]
        self._used: list[np.ndarray] = []
        self.end()

    def end(self, why: str = "") -> None:
        """Stop adapting until the next alarm.

        Args:
            why: What ends thresholds in use.
        """
        with self._lock:
            if self._used:
                self._change([], why)
            self._chain, self._promised, self._held = np.zeros(0, np.float32), 0.0, False
            self._stages, self._costs = (), np.zeros(1)
            self._forget()

    def _forget(self) -> None:
        """Forget the answers so far, and what they chose."""
        self._answers = StageAnswers.none(len(self._places))
        self._since, self._due = 0, self.samples
        self._choice: Choice | None = None
        self._guard: Martingale | None = None

    @property
    def _places(self) -> np.ndarray:
        """int64 (K,): the stages in use."""
        return np.flatnonzero(self._chain != STAGE_OFF)

    @property
    def on(self) -> bool:
        """Whether traffic has moved, so that the backbone answers, or adapted thresholds do."""
        return bool(len(self._places))

    @property
    def thresholds(self) -> np.ndarray | None:
        """float32 (S,): those that are in use; None while the backbone answers, or the operating point does."""
        with self._lock:
            return self._chain_at(self._used[-1]) if self._used else None

    def _chain_at(self, used: np.ndarray) -> np.ndarray:
        """Return one threshold per stage, float32 (S,), for those of the stages in use."""
        thresholds = self._chain.copy()
        thresholds[self._places] = used
        return thresholds

    @property
    def probes(self) -> list[tuple[int, np.ndarray]]:
        """Thresholds float32 (S,) at which all samples leave at one of the stages in use, with its index; end last."""
        with self._lock:
            ends = np.where(self._chain == STAGE_OFF, STAGE_OFF, NEVER_EXIT).astype(np.float32)
            found = [(int(place), ends.copy()) for place in self._places]
            for place, thresholds in found:
                thresholds[place] = ALWAYS_EXIT
            return [*found, (len(ends), ends)] if found else []

    def begin(
        self,
        stages: Sequence[str],
        thresholds: np.ndarray,
        promised: float,
        costs: tuple[np.ndarray, np.ndarray] | None,
    ) -> None:
        """Traffic has moved: forget what was learned of it before.

        Args:
            stages: Names of the S stages before the final.
            thresholds: float32 (S,): of the operating point that answered.
            promised: The share of its answers that are the backbone's on test samples, in 0..1.
            costs: Of the S stages and the final, float64 (S + 1,): their own and of the backbone up to them, over the
                backbone's; None if unknown.
        """
        with self._lock:
            self._stages, self._chain = tuple(stages), np.asarray(thresholds, np.float32)
            self._promised = promised if self.agreement is None else self.agreement
            self._held = self._promised >= 1
            self._forget()
            if self.on and self._held:
                logger.warning(
                    "no number of answers can show that all of them are the backbone's, as on test samples: nothing is "
                    "adapted, and the backbone answers; promise less, such as agreement=0.99"
                )
            places = np.append(self._places, len(stages))
            if costs is None:
                self._costs = np.arange(1, len(places) + 1) / len(places)
            else:
                self._costs = np.cumsum(costs[0][places]) + costs[1][places]

    def observe(self, classes: np.ndarray, confidence: np.ndarray, backbone: np.ndarray) -> None:
        """Take answers of all stages to some samples.

        Args:
            classes: int64 (N, K + 1): what each stage in use, and the end of their chain, would answer.
            confidence: float32 (N, K): of the stages' answers; -1 where a stage has none.
            backbone: int64 (N,): what the backbone answers.
        """
        answers = StageAnswers(np.asarray(confidence, np.float32), classes != backbone[:, None])
        with self._lock:
            if not self.on or answers.confidence.shape[1:] != self._places.shape or not answers.samples:
                return  # another thread has ended it meanwhile
            self._checked += answers.samples
            if self._broken(answers):
                self._change([], f"the promised agreement of {self._promised:.1%} is no longer kept")
                self._forget()
                return
            self._since += answers.samples
            if self._choice is not None and not self._held:
                self._choice.test(answers, self._allowed)
                self._use_certified(self._choice)
            self._answers = self._answers.joined(answers, _KEPT)
            if self._since >= self._due and not self._held:
                self._choose()

    @property
    def _allowed(self) -> float:
        return 1 - self._promised

    def _choose(self) -> None:
        """Choose candidates on the answers so far, to be tested on those that follow."""
        self._due = self._since + max(self.samples, _TESTED * self._answers.samples)
        path = candidate_path(self._answers, self._costs, self._allowed, _CANDIDATES)
        self._choice = None
        if not path or self._cost_in_use - self._cost(path[-1]) < _LEAST_GAIN:
            return
        self._choices += 1
        share = 1 / (self._choices * (self._choices + 1))
        differing = np.array([int(self._answers.disagrees(each).sum()) for each in path])
        self._choice = Choice(
            thresholds=np.array(path),
            expected=(differing + 1) / (self._answers.samples + 1),
            level=(1 - self.probability) * share,
            planned=self._due - self._since,
            tested=0,
            differing=np.zeros(len(path), np.int64),
            reached=np.zeros(len(path), bool),
        )

    def _cost(self, thresholds: np.ndarray) -> float:
        """The mean cost of the answers so far at thresholds float32 (K,), over the backbone's."""
        return float(self._costs[self._answers.exits(thresholds)].mean())

    @property
    def _cost_in_use(self) -> float:
        return self._cost(self._used[-1]) if self._used else 1.0

    def _use_certified(self, choice: Choice) -> None:
        """Use the boldest candidate that is certified, if it saves enough."""
        if not choice.certified:
            return
        place = choice.certified - 1
        saved = self._cost_in_use - self._cost(choice.thresholds[place])
        if saved < _LEAST_GAIN:
            return
        share = 1 - int(choice.differing[place]) / choice.tested
        self._change(
            [*self._used, choice.thresholds[place]], f"{share:.1%} of {choice.tested} answers since were the backbone's"
        )

    def _broken(self, answers: StageAnswers) -> bool:
        """Whether the thresholds in use differ from the backbone too often, by all answers since they are."""
        if self._guard is None:
            return False
        allowed, differs = self._allowed, answers.disagrees(self._used[-1])
        random = np.random.default_rng(self._checked).random(answers.samples)
        # uniform where a share `allowed` differs, and nearer to 1 where less do
        ranks = np.where(differs, random * allowed, allowed + random * (1 - allowed))
        self._guard.bet(np.minimum(ranks, _BELOW_ONE))
        level = (1 - self.probability) / (self._guards * (self._guards + 1))
        return self._guard.log_value >= -np.log(level)

    def _change(self, used: list[np.ndarray], why: str) -> None:
        self._used = used
        self._guard = Martingale("increase") if used else None
        self._guards += bool(used)
        thresholds = None
        what = "the backbone answers"
        if used:
            names = (self._stages[place] for place in self._places)
            thresholds = dict(zip(names, used[-1].tolist(), strict=True))
            told = ", ".join(f"{name} > {value:.3f}" for name, value in thresholds.items())
            what = f"thresholds are {told}, at about {self._cost_in_use:.0%} of the backbone's cost"
        self._changes.append(Change(self._checked, time.time(), thresholds, f"{what}: {why}"))
        logger.warning(f"adapted after {self._checked} checked answers: {self._changes[-1].message}")

    @property
    def changes(self) -> int:
        """The number of changes so far."""
        return len(self._changes)

    def undo(self) -> bool:
        """Go back to what answered before the last change, and change nothing more.

        Adapting goes on once the model has been switched by hand and an alarm has come.

        Returns:
            Whether there was anything to undo.
        """
        with self._lock:
            if not self._used:
                return False
            self._held, self._choice = True, None
            self._change(self._used[:-1], "the last change was undone")
            return True

    def status(self) -> AdaptationStatus:
        """Return what is known so far."""
        with self._lock:
            thresholds = self._changes[-1].thresholds if self._used else None
            return AdaptationStatus(self.on, self._promised, self._checked, thresholds, tuple(self._changes))

    def to_dict(self) -> dict[str, Any]:
        """Return its options and state as what JSON holds."""
        with self._lock:
            return {
                "options": [self.agreement, self.probability, self.samples],
                "numbers": [self._checked, self._choices, self._guards, self._since, self._due],
                "promised": self._promised,
                "held": self._held,
                "stages": list(self._stages),
                "chain": [None if each == STAGE_OFF else each for each in self._chain.tolist()],
                "costs": self._costs.tolist(),
                "used": [each.tolist() for each in self._used],
                "confidence": self._answers.confidence.tolist(),
                "differs": self._answers.differs.astype(int).tolist(),
                "choice": None if self._choice is None else self._choice.to_dict(),
                "guard": None if self._guard is None else self._guard.to_dict(),
                "changes": [asdict(change) for change in self._changes],
            }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state that `to_dict` returned.

        Raises:
            KeyError: An entry is missing.
            TypeError: An entry is of another kind.
            ValueError: Its entries do not fit each other.
            MonitorError: It is the state of another promise.
        """
        if state["options"] != [self.agreement, self.probability, self.samples]:
            raise MonitorError(
                f"the state is of an adaptation with agreement, probability and samples of {state['options']}; "
                "give the same, or begin without it"
            )
        chain = np.array([STAGE_OFF if each is None else each for each in state["chain"]], np.float32)
        stages = int(np.count_nonzero(chain != STAGE_OFF))
        answers = StageAnswers(
            np.array(state["confidence"], np.float32).reshape(len(state["confidence"]), stages),
            np.array(state["differs"], bool).reshape(len(state["differs"]), stages + 1),
        )
        costs, used = np.array(state["costs"], np.float64), [np.array(each, np.float32) for each in state["used"]]
        fitting = len(answers.confidence) == len(answers.differs) and len(costs) == stages + 1
        if not fitting or any(each.shape != (stages,) for each in used) or len(state["stages"]) != len(chain):
            raise ValueError("its stages, answers and thresholds do not fit each other")
        numbers = [int(each) for each in state["numbers"]]
        choice = None if state["choice"] is None else Choice.from_dict(state["choice"], stages)
        guard = None if state["guard"] is None else Martingale.from_dict(state["guard"], "increase")
        changes = [Change(**change) for change in state["changes"]]
        with self._lock:
            self._checked, self._choices, self._guards, self._since, self._due = numbers
            self._promised, self._held = float(state["promised"]), bool(state["held"])
            self._stages, self._chain, self._costs = tuple(map(str, state["stages"])), chain, costs
            self._answers, self._used, self._choice = answers, used, choice
            self._guard, self._changes = guard, changes
