"""One thing that a monitor watches: a stream of values, and the capital of bets that it is not like its reference."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .conformal import Bets, ConformalRanks, Martingale

# blocks whose counts are kept to tell what has moved, at most
_KEPT = 256


@dataclass
class Watch:
    """Watches a stream of values whose reference depends on the operating point.

    Attributes:
        references: int64 (K,) by operating point: samples of the reference by value, from good to bad.
        bets: What is bet on, as for `log_bets`.
        level: The probability that it ever fires though nothing has moved.
        seed: Breaks ties of values.
        martingale: The capital against the reference.
        ranks: What was seen at each operating point since the last start.
        recent: Of the last blocks: the operating point, and totals that tell what has moved.
    """

    references: dict[str, np.ndarray]
    bets: Bets
    level: float
    seed: int
    martingale: Martingale = field(init=False)
    ranks: dict[str, ConformalRanks] = field(init=False)
    recent: list[tuple[str, np.ndarray]] = field(init=False)

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.seed)
        self.restart(self.level)

    def restart(self, level: float) -> None:
        """Forget what was seen, and fire with this probability at most from now on."""
        self.level, self.recent = level, []
        self.martingale = Martingale(self.bets)
        self.ranks = {name: ConformalRanks(counts) for name, counts in self.references.items()}

    def observe(self, point: str, values: np.ndarray, totals: np.ndarray) -> None:
        """Take the next values at one operating point, int64 (n,) in 0..K-1.

        Args:
            point: Name of the operating point; values at one without a reference are left out.
            values: At most a few hundred.
            totals: float64 (T,): figures of these values that add up.
        """
        if point not in self.ranks or not len(values):
            return
        self.martingale.bet(self.ranks[point].rank(values, self._random))
        self.recent = [*self.recent[1 - _KEPT :], (point, np.asarray(totals, dtype=np.float64))]

    @property
    def fires(self) -> bool:
        """Whether the stream is not like its reference."""
        return self.martingale.log_value >= -np.log(self.level)

    @property
    def evidence(self) -> float:
        """The logarithm of the capital, 0 or more, divided by that of what makes it fire."""
        return max(0.0, self.martingale.log_value / -np.log(self.level))

    def since_change(self) -> dict[str, np.ndarray]:
        """Return the totals since the change, as far as it can be told and is remembered, by operating point."""
        blocks, totals = self.martingale.blocks - self.martingale.change, dict[str, np.ndarray]()
        for point, each in self.recent[-blocks:] if blocks else []:
            totals[point] = totals.get(point, 0) + each
        return totals

    def to_dict(self) -> dict[str, Any]:
        """Return its state as what JSON holds."""
        return {
            "level": self.level,
            "random": self._random.bit_generator.state,
            "martingale": self.martingale.to_dict(),
            "seen": {name: ranks.counts.tolist() for name, ranks in self.ranks.items()},
            "recent": [[point, totals.tolist()] for point, totals in self.recent],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
            KeyError: An entry is missing.
            TypeError: An entry is of another kind.
            ValueError: It is the state of another watch.
        """
        seen = {name: np.asarray(counts, dtype=np.int64) for name, counts in state["seen"].items()}
        recent = [(str(point), np.asarray(totals, dtype=np.float64)) for point, totals in state["recent"]]
        if {*seen} != {*self.references} or not 0 < float(state["level"]) < 1:
            raise ValueError("it is of other operating points")
        for name, counts in seen.items():
            if counts.shape != self.references[name].shape or (counts < self.references[name]).any():
                raise ValueError(f"its counts of '{name}' are not those of the reference and more")
        if any(point not in seen or totals.ndim != 1 or not np.isfinite(totals).all() for point, totals in recent):
            raise ValueError("its totals are none")
        self._random.bit_generator.state = state["random"]
        self.martingale = Martingale.from_dict(state["martingale"], self.bets)
        self.level, self.recent = float(state["level"]), recent
        self.ranks = {name: ConformalRanks(counts) for name, counts in seen.items()}
