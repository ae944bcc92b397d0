"""Watches statistics of inputs, each with bets of its own, which share the level."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import MonitorError
from .input_reference import InputReference
from .input_statistics import MASK, compute, looked_at
from .parts import find_parts
from .watch import Watch

# inputs are watched alike at all operating points
_ANY = ""
# blocks that are left out after each that is looked at, to save time, unless its evidence is this share of an alarm's:
# what is left out depends on what was seen before alone, so that ranks stay uniform
_LEFT_OUT, _SUSPICIOUS = 7, 0.2


class InputWatch:
    """Watches the inputs of one block in eight, and of all that follow one that looks suspicious.

    It is not safe from several threads.

    Args:
        references: Inputs of the test samples, one at least.
        level: The probability that it ever fires though nothing has moved.
        seed: Breaks ties.
        block: Samples that are looked at together.
    """

    def __init__(self, references: tuple[InputReference, ...], level: float, seed: int, block: int):
        self.names = tuple(each.name for each in references)
        self._block = block
        self._kinds = {each.name: each.kind for each in references}
        self._wanted = {each.name: tuple(one.name for one in each.statistics) for each in references}
        self._common = {each.name: np.array(each.common, dtype=np.int64) for each in references}
        self._statistics = [(each.name, one) for each in references for one in each.statistics]
        self._watches = [
            Watch({_ANY: np.array(one.counts, dtype=np.int64)}, "shape", level / len(self._statistics), seed + place)
            for place, (_, one) in enumerate(self._statistics)
        ]
        self._forget()

    def _forget(self) -> None:
        """Forget samples that wait to be looked at."""
        self._arrived: list[dict[str, np.ndarray]] = []
        self._waiting = np.zeros((0, len(self._statistics)))
        self._count = self._left_out = 0

    def restart(self, level: float) -> None:
        """Forget what was seen, and fire with this probability at most from now on."""
        for watch in self._watches:
            watch.restart(level / len(self._watches))
        self._forget()

    @property
    def due(self) -> bool:
        """Whether the next sample is looked at."""
        return not self._left_out

    def take(self, inputs: Mapping[str, Any] | None, count: int) -> bool:
        """Take the inputs of answers; whether it fires, so that it is to be restarted.

        Args:
            inputs: Arrays or tensors (n, ...) by the model's names; others are left out. None: they are not at hand.
            count: n.

        Raises:
            MonitorError: One is missing, or is not like those of the test samples.
        """
        if self._left_out >= count:  # as of nearly all requests
            self._left_out -= count
            return False
        place = 0
        while place < count:
            if self._left_out:
                passed = min(self._left_out, count - place)
                self._left_out -= passed
                place += passed
            elif inputs is None:
                return False
            else:
                rows = slice(place, min(count, place + self._block - self._count))
                self._arrived.append(self._prepare(inputs, count, rows))
                self._count += rows.stop - place
                place = rows.stop
                if self._count == self._block and self._look():
                    return True
        return False

    def _prepare(self, inputs: Mapping[str, Any], count: int, rows: slice) -> dict[str, np.ndarray]:
        """Return copies of what is looked at of some rows."""
        prepared = {}
        for name, kind in self._kinds.items():
            values = inputs.get(name)
            if values is None:
                raise MonitorError(f"input '{name}' is watched and missing; observe it too, or watch with inputs=False")
            if len(values) != count or values.ndim < 2 or (kind == "tokens" and values.ndim > 2):
                raise MonitorError(
                    f"got {count} answers and input '{name}' of shape {list(values.shape)}; "
                    "give what the model takes, a row for each answer"
                )
            prepared[name] = looked_at(values[rows], kind)
        if inputs.get(MASK) is not None:
            prepared[MASK] = looked_at(inputs[MASK][rows], "tokens")
        return prepared

    def _compute(self) -> None:
        """Compute the statistics of all samples that wait."""
        found = [self._waiting]
        # texts of several calls may be padded to different lengths
        for _, group in itertools.groupby(self._arrived, lambda each: [values.shape[1:] for values in each.values()]):
            parts = list(group)
            joined = {name: np.concatenate([each[name] for each in parts]) for name in parts[0]}
            found.append(compute(self._wanted, joined, self._common))
        self._arrived, self._waiting = [], np.concatenate(found)

    def _look(self) -> bool:
        """Bet on the samples that wait, a full block; whether it fires."""
        self._compute()
        for (_, reference), watch, values in zip(self._statistics, self._watches, self._waiting.T, strict=True):
            watch.observe(_ANY, find_parts(reference.edges, values), np.array([len(values), values.sum()]))
        self._forget()
        self._left_out = 0 if self.evidence >= _SUSPICIOUS else _LEFT_OUT * self._block
        return any(watch.fires for watch in self._watches)

    @property
    def evidence(self) -> float:
        """The largest of any statistic, as `Watch.evidence`."""
        return max(watch.evidence for watch in self._watches)

    def strongest(self) -> tuple[str, str, int, float, float]:
        """Return what has moved most: input, statistic, answers since the change, mean before, and since."""
        place = int(np.argmax([watch.martingale.log_value for watch in self._watches]))
        (name, reference), totals = self._statistics[place], self._watches[place].since_change()
        count, total = totals[_ANY]
        return name, reference.name, int(count), reference.mean, float(total / count)

    def to_dict(self) -> dict[str, Any]:
        """Return its state as what JSON holds."""
        self._compute()
        return {
            "left_out": self._left_out,
            "watches": [watch.to_dict() for watch in self._watches],
            "waiting": self._waiting.tolist(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
            KeyError: An entry is missing.
            TypeError: An entry is of another kind.
            ValueError: It is the state of another watch.
        """
        waiting = np.asarray(state["waiting"], dtype=np.float64).reshape(-1, len(self._statistics))
        left_out = int(state["left_out"])
        if len(waiting) >= self._block or not np.isfinite(waiting).all() or left_out < 0:
            raise ValueError("its statistics of inputs are none")
        for watch, each in zip(self._watches, state["watches"], strict=True):
            watch.restore(each)
        self._forget()
        self._waiting, self._count, self._left_out = waiting, len(waiting), left_out
