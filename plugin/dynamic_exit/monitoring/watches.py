"""All that a monitor watches of answers and inputs: looks at them in blocks, and calls back where one has moved."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..drift.conformal import Bets
from ..drift.input_watch import InputWatch
from ..drift.watch import Watch
from .blocks import Block
from .explain import answer_totals, explain, explain_inputs, reference_counts
from .reference import Reference
from .status import Alarm

#: What is watched of answers, with the share of the level that it may spend.
SHARES = {"exits": 0.4, "classes": 0.2, "agreement": 0.2, "accuracy": 0.2}
_BETS: dict[str, Bets] = {"exits": "shape", "classes": "mix", "agreement": "increase", "accuracy": "increase"}
#: What is watched of inputs; where it is, it may spend this share, and the others the rest.
INPUTS = "inputs"
_INPUTS_SHARE = 0.2
#: Answers that are looked at together: a block costs about as much as one sample of a small model.
BLOCK = 128
_CHECKED_BLOCK = BLOCK // 8


class Watches:
    """Watches answers, and inputs where there is a reference for them; not safe from several threads.

    Args:
        reference: The test samples.
        level: The probability that anything ever fires before `restart` though nothing has moved.
        seed: Breaks ties.
        inputs: Whether inputs are watched.
        fired: Called with what has moved, a key of `MEANINGS`; it must `restart`.

    Attributes:
        inputs: Watches inputs; None: they are not watched.
    """

    def __init__(self, reference: Reference, level: float, seed: int, inputs: bool, fired: Callable[[str], None]):
        self._reference, self._fired = reference, fired
        self._points = {point.name: point for point in reference.points}
        self._answers_share = 1 - _INPUTS_SHARE if inputs else 1.0
        self._watches = {
            kind: Watch(reference_counts(reference, kind), _BETS[kind], level, seed + number)
            for number, kind in enumerate(SHARES)
        }
        self.inputs = InputWatch(reference.inputs, level, seed + len(SHARES), BLOCK) if inputs else None
        self.restart(level)

    def restart(self, level: float) -> None:
        """Forget what was seen, and fire with this probability at most from now on."""
        for kind, watch in self._watches.items():
            watch.restart(level * SHARES[kind] * self._answers_share)
        self._waiting: dict[str, list[Block]] = {kind: [] for kind in SHARES}
        if self.inputs is not None:
            self.inputs.restart(level * _INPUTS_SHARE)

    def knows(self, kind: str, point: str) -> bool:
        """Whether there are test samples at an operating point to compare answers with."""
        return point in self._watches[kind].references

    def take(self, kind: str, block: Block) -> None:
        """Let answers wait until they fill a block of one operating point, then look at them."""
        if not len(block.values):
            return
        size = BLOCK if kind in ("exits", "classes") else _CHECKED_BLOCK
        waiting = self._waiting[kind]
        if waiting and waiting[-1].point != block.point:
            self._look(kind)
        self._waiting[kind].append(block)
        while sum(len(each.values) for each in self._waiting[kind]) >= size:
            self._look(kind, size)

    def take_inputs(self, inputs: Mapping[str, Any] | None, count: int) -> None:
        """Take the inputs of answers, as `InputWatch.take`."""
        if self.inputs is not None and self.inputs.take(inputs, count):
            self._fired(INPUTS)

    def _look(self, kind: str, size: int | None = None) -> None:
        """Bet on the answers that have waited longest; on all of them if no size is given."""
        waiting = self._waiting[kind]
        arrays = zip(*(each[1:] for each in waiting), strict=True)
        point, joined = waiting[0].point, [each[0] if len(each) == 1 else np.concatenate(each) for each in arrays]
        block, size = Block(point, *joined), size or len(joined[0])
        waiting[:] = [block.part(slice(size, None))] if len(block.values) > size else []
        watch, block = self._watches[kind], block.part(slice(size))
        totals = answer_totals(self._points[point], kind, block.values, block.exits, block.sure)
        watch.observe(point, block.values, totals)
        if watch.fires:
            self._fired(kind)

    def explain(self, kind: str, request: int) -> Alarm:
        """Say what has moved.

        Args:
            kind: What has fired.
            request: Number of answers so far.
        """
        if kind == INPUTS and self.inputs is not None:
            return explain_inputs(*self.inputs.strongest(), request)
        return explain(self._reference, kind, self._watches[kind].since_change(), request)

    @property
    def evidence(self) -> dict[str, float]:
        """The evidence by what is watched, as `Watch.evidence`."""
        found = {kind: watch.evidence for kind, watch in self._watches.items()}
        return found if self.inputs is None else {**found, INPUTS: self.inputs.evidence}

    @property
    def exits(self) -> np.ndarray:
        """Number of recent answers by stage, (S,)."""
        totals = [total for _, total in self._watches["exits"].recent]
        return np.sum(totals, axis=0)[:-1] if totals else np.zeros(len(self._reference.stages))

    def to_dict(self) -> dict[str, Any]:
        """Return its state as what JSON holds."""
        return {
            "watches": {kind: watch.to_dict() for kind, watch in self._watches.items()},
            "waiting": {kind: [each.to_list() for each in blocks] for kind, blocks in self._waiting.items()},
            INPUTS: None if self.inputs is None else self.inputs.to_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        Raises:
            KeyError: An entry is missing.
            TypeError: An entry is of another kind.
            ValueError: It is the state of other watches.
        """
        waiting = {kind: [Block.from_list(each) for each in state["waiting"][kind]] for kind in SHARES}
        for kind, watch in self._watches.items():
            watch.restore(state["watches"][kind])
        if self.inputs is not None:
            if state.get(INPUTS) is None:  # what they spend was not set aside
                raise ValueError("inputs were not watched; resume it with inputs=False")
            self.inputs.restore(state[INPUTS])
        self._waiting = waiting
