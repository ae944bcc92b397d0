"""The stages of a chain as one typed table."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

#: A chain: indices into a stage table, rising, without the final.
Stages = tuple[int, ...]


def exit_cost(own_cost: np.ndarray, prefix_cost: np.ndarray) -> np.ndarray:
    """Return what a sample costs that exits at each stage in use, the final last: float64 (m,), as both arguments."""
    costs: np.ndarray = np.cumsum(own_cost) + prefix_cost
    return costs


@dataclass(frozen=True, eq=False)
class StageTable:
    """The S stages of a chain in order: savers, exits by position, final.

    Attributes:
        names: S unique names.
        kinds: S times ``saver``, ``exit`` or ``final``; exactly one final, last.
        positions: int64 (S,); -1 for savers, the index of the cut for exits, above all exits for the final.
        own_cost: float64 (S,) >= 0; the whole model of a saver, the head of an exit, 0 for the final.
        prefix_cost: float64 (S,) >= 0; 0 for savers, the backbone up to its cut for an exit, the whole backbone (> 0)
            for the final.
        requires: int64 (S,); index of the saver that must be in use wherever the stage is, -1 for none; None if no
            stage requires another.
        max_savers: The largest number of savers in a chain; any number if None.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    positions: np.ndarray
    own_cost: np.ndarray
    prefix_cost: np.ndarray
    requires: np.ndarray | None = None
    max_savers: int | None = None

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        kinds: Sequence[str],
        positions: Sequence[int],
        own_cost: Sequence[float],
        prefix_cost: Sequence[float],
    ) -> "StageTable":
        """Make a table of lists; attributes as of the class."""
        return cls(
            tuple(names),
            tuple(kinds),
            np.asarray(positions, dtype=np.int64),
            np.asarray(own_cost, dtype=np.float64),
            np.asarray(prefix_cost, dtype=np.float64),
        )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def final(self) -> int:
        """Index of the final."""
        return len(self.names) - 1

    @property
    def baseline_cost(self) -> float:
        """Cost of the backbone alone, per sample."""
        return float(self.prefix_cost[-1])

    @property
    def savers(self) -> Stages:
        """Indices of the savers."""
        return tuple(s for s, kind in enumerate(self.kinds) if kind == "saver")

    @property
    def exits(self) -> Stages:
        """Indices of the exits."""
        return tuple(s for s, kind in enumerate(self.kinds) if kind == "exit")

    def columns(self) -> dict[str, Any]:
        """Return the columns under the names that `Records` gives them."""
        return {
            "stages": self.names,
            "kinds": self.kinds,
            "positions": self.positions,
            "own_cost": self.own_cost,
            "prefix_cost": self.prefix_cost,
            "requires": self.requires,
        }

    def select(self, keep: Sequence[int]) -> "StageTable":
        """Return the table of some stages.

        Args:
            keep: Their indices, rising, with all savers that they require.
        """
        index = list(keep)
        return StageTable(
            tuple(self.names[i] for i in index),
            tuple(self.kinds[i] for i in index),
            self.positions[index],
            self.own_cost[index],
            self.prefix_cost[index],
            None if self.requires is None else _reindex(self.requires, index),
            self.max_savers,
        )

    def required_savers(self, stages: Iterable[int]) -> set[int]:
        """Return the savers that stages require.

        Args:
            stages: Indices of stages.

        Returns:
            Indices of savers.
        """
        return set() if self.requires is None else {int(self.requires[s]) for s in stages if self.requires[s] >= 0}

    def is_valid_chain(self, stages: Stages) -> bool:
        """Return whether a chain holds all savers that its stages require."""
        return self.required_savers(stages) <= set(stages)

    def exit_cost(self, stages: Stages) -> np.ndarray:
        """Return what a sample costs that exits at each stage of a chain and at the final, float64 (m + 1,).

        A sample pays the own cost of all stages up to its exit and the prefix cost of the stage where it exits.
        """
        chain = [*stages, self.final]
        return exit_cost(self.own_cost[chain], self.prefix_cost[chain])

    def extensions(self, stages: Stages) -> Iterator[Stages]:
        """Yield every valid chain with one stage more.

        Args:
            stages: The chain.
        """
        savers = sum(self.kinds[s] == "saver" for s in stages)
        taken = {int(self.positions[s]) for s in stages if self.kinds[s] == "exit"}
        for stage in range(self.final):
            if stage in stages:
                continue
            if self.kinds[stage] == "saver":
                if self.max_savers is not None and savers >= self.max_savers:
                    continue
            elif int(self.positions[stage]) in taken:
                continue
            chain = tuple(sorted((*stages, stage)))
            if self.is_valid_chain(chain):
                yield chain

    def exchanges(self, stages: Stages) -> Iterator[Stages]:
        """Yield every valid chain with one stage less, or with another one in its place.

        Args:
            stages: The chain.
        """
        for stage in stages:
            rest = tuple(s for s in stages if s != stage)
            if self.is_valid_chain(rest):
                yield rest
                yield from self.extensions(rest)

    def longer(self, layer: Iterable[Stages]) -> list[Stages]:
        """Return every valid chain with one stage more than a chain of a layer, sorted."""
        return sorted({chain for stages in layer for chain in self.extensions(stages)})


def _reindex(requires: np.ndarray, keep: list[int]) -> np.ndarray | None:
    # None where no kept stage requires another: then the rule costs no time
    found = np.array([keep.index(int(requires[i])) if requires[i] >= 0 else -1 for i in keep], dtype=np.int64)
    return found if (found >= 0).any() else None
