"""Is a stream still like its reference: conformal p-values, and bets against them.

If the samples of a stream come from where those of the reference came from, the share of samples so far, the reference
included, that are harder than the next one is uniform and independent of all before (Vovk, Gammerman and Shafer,
Algorithmic Learning in a Random World, chapter 8); ties are broken at random. Whoever bets against that at fair odds
wins with a small probability alone: a capital that starts at 1 ever reaches c with probability 1 / c at most (Ville),
however long the stream is and however few samples the reference has.

Bets are densities on [0, 1] that tell of harder samples, easier ones, or more of both. Each begins at every block of
samples, with a part of the capital that was set aside for that block, so that a change is noticed whenever it comes;
what is set aside never runs out. This is the Shiryaev-Roberts statistic with a prior on the time of the change.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, Literal

import numpy as np

# parts of [0, 1] in which densities are tabulated
_GRID = 400
# the sum over blocks of 1 / ((block + 2) log(block + 2)^2), by which the parts of the capital add up to 1
_PRIOR_SUM = 2.11


Bets = Literal["shape", "increase", "mix"]


@cache
def log_bets(kind: Bets) -> np.ndarray:
    """Return the logarithms of the densities that are bet on, float64 (bets, grid).

    Args:
        kind: ``shape``: samples get harder, easier, or both; ``increase``: they get harder; ``mix``: any tenth of them,
            in whatever order, becomes more or less frequent.
    """
    place = (np.arange(_GRID) + 0.5) / _GRID
    if kind == "mix":
        tenths = [(place * 10).astype(np.int64) == tenth for tenth in range(10)]
        more = [1 - stake + stake * 10 * tenth for tenth in tenths for stake in (0.05, 0.15)]
        less = [1 - 0.5 * tenth for tenth in tenths]
        return _log_densities([*more, *less])
    # p-values near 0 are those of the hardest samples
    harder = [np.exp(-strength * place) for strength in (0.5, 1, 2, 4)]
    harder += [1 - stake + stake * (place < tail) / tail for tail in (0.02, 0.05, 0.1, 0.2) for stake in (0.05, 0.2)]
    if kind == "increase":
        return _log_densities(harder)
    easier = [np.exp(strength * place) for strength in (0.5, 1, 2, 4)]
    both = [np.exp(strength * np.abs(2 * place - 1)) for strength in (-2, -1, 1, 2)]
    return _log_densities([*harder, *easier, *both])


def _log_densities(shapes: Sequence[np.ndarray]) -> np.ndarray:
    densities = np.array(shapes)
    return np.log(densities / densities.mean(axis=1, keepdims=True))


class ConformalRanks:
    """Ranks samples among all before them and those of the reference.

    Args:
        counts: int64 (K,): samples of the reference by value, from the easiest value to the hardest.
    """

    def __init__(self, counts: np.ndarray):
        self.counts = np.asarray(counts, dtype=np.int64).copy()

    def rank(self, values: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Return the p-values of the next samples, float64 (n,) in [0, 1), and count these.

        Args:
            values: int64 (n,) in 0..K-1.
            random: Breaks ties.
        """
        count, not_harder = len(values), self.counts.cumsum()
        small = values.astype(np.min_scalar_type(len(self.counts)))
        earlier = small[:, None]
        same = self.counts[values] + _count_earlier(earlier == small)
        harder = not_harder[-1] - not_harder[values] + _count_earlier(earlier > small)
        total = not_harder[-1] + np.arange(count)
        self.counts += np.bincount(values, minlength=len(self.counts))
        return (harder + random.random(count) * (same + 1)) / (total + 1)


def _count_earlier(such: np.ndarray) -> np.ndarray:
    """Return for each sample of a block how many before it are such, whole numbers (n,).

    Args:
        such: bool (n, n), by the earlier sample and the later one.
    """
    count = len(such)
    # bytes are added many at a time
    return np.add.reduce((such & _before(count)).view(np.uint8), axis=0, dtype=np.min_scalar_type(count))


@lru_cache(maxsize=16)
def _before(count: int) -> np.ndarray:
    """Return which sample of a block, the first axis, came before which, bool (n, n)."""
    return np.triu(np.ones((count, count), dtype=bool), k=1)


@dataclass
class Martingale:
    """The capital of one who bets that p-values are not uniform.

    Attributes:
        kind: What is bet on, as for `log_bets`.
        blocks: Number of blocks so far.
        spent: Part of the capital that was set aside for these, in 0..1.
        log_capital: float64 (bets,): of what was set aside for the blocks so far, by bet.
        strongest: float64 (bets,): the largest capital that a bet can have by beginning at one of the blocks.
        since: int64 (bets,): that block.
    """

    kind: Bets = "shape"
    blocks: int = 0
    spent: float = 0.0
    log_capital: np.ndarray = field(default_factory=lambda: np.zeros(0))
    strongest: np.ndarray = field(default_factory=lambda: np.zeros(0))
    since: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        if not len(self.log_capital):
            bets = len(log_bets(self.kind))
            self.log_capital, self.strongest = np.full(bets, -np.inf), np.zeros(bets)
            self.since = np.zeros(bets, dtype=np.int64)

    def bet(self, p_values: np.ndarray) -> None:
        """Bet on the p-values of one block, float64 (n,) in [0, 1)."""
        gains = log_bets(self.kind).take((p_values * _GRID).astype(np.int64), axis=1).sum(axis=1)
        staked = _prior(self.blocks)
        self.spent += staked
        self.log_capital = np.logaddexp(self.log_capital, np.log(staked)) + gains
        begins = self.strongest <= 0
        self.since[begins] = self.blocks
        self.strongest = np.maximum(self.strongest, 0) + gains
        self.blocks += 1

    @property
    def log_value(self) -> float:
        """The logarithm of all capital, what is set aside included; 0 at the start."""
        begun = np.logaddexp.reduce(self.log_capital) - np.log(len(self.log_capital))
        return float(np.logaddexp(begun, np.log(max(1 - self.spent, 1e-300))))

    @property
    def change(self) -> int:
        """The block at which the strongest bet begins."""
        return int(self.since[self.strongest.argmax()])

    def to_dict(self) -> dict[str, Any]:
        """Return its state as what JSON holds."""
        capital = [None if np.isneginf(each) else float(each) for each in self.log_capital]
        return {
            "blocks": self.blocks,
            "spent": self.spent,
            "log_capital": capital,
            "strongest": self.strongest.tolist(),
            "since": self.since.tolist(),
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any], kind: Bets) -> "Martingale":
        """Return the martingale of a state.

        Raises:
            ValueError: The state is none of such a martingale.
        """
        capital = np.array([-np.inf if each is None else each for each in state["log_capital"]], dtype=np.float64)
        strongest = np.asarray(state["strongest"], dtype=np.float64)
        since = np.asarray(state["since"], dtype=np.int64)
        if not len(capital) == len(strongest) == len(since) == len(log_bets(kind)):
            raise ValueError(f"it holds {len(capital)} bets")
        return cls(kind, int(state["blocks"]), float(state["spent"]), capital, strongest, since)


def _prior(block: int) -> float:
    """Return the part of the capital that is set aside for bets from this block on."""
    return float(1 / ((block + 2) * np.log(block + 2) ** 2) / _PRIOR_SUM)
