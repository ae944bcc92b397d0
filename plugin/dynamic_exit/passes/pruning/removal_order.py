"""Which units go, and in which order."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

# what a share of whole numbers may be off by in floating point
_CLOSE = 1e-9


@dataclass(frozen=True)
class Block:
    """Units of one layer that go together.

    Attributes:
        name: The layer's.
        units: Which.
        key: Blocks of smaller keys go first; in the scope of a layer, the ratio from which on it goes.
    """

    name: str
    units: tuple[int, ...]
    key: float


@dataclass(frozen=True)
class Rules:
    """What may go at most.

    Attributes:
        scope: ``layer`` or ``global``.
        initial: By layer, the units before any were removed.
        max_ratio: Share of a layer's units that may go; one stays in any case.
        round_to: Units that stay in a layer are a multiple of this.
    """

    scope: str
    initial: Mapping[str, int]
    max_ratio: float
    round_to: int


def removal_order(scores: Mapping[str, Tensor], rules: Rules) -> list[Block]:
    """Put what may go in order, the least important first.

    Args:
        scores: By layer, the importance of the units that it has now, (U,).
        rules: What may go.

    Returns:
        All blocks that may go.
    """
    blocks = []
    for name, score in scores.items():
        initial, now = rules.initial[name], len(score)
        gone, most = initial - now, min(initial - 1, int(initial * rules.max_ratio + _CLOSE))
        ranked = torch.argsort(score, stable=True).tolist()
        first = 0
        while first < now:
            # the first block brings the layer to a multiple
            last = first + ((now - first) % rules.round_to or rules.round_to)
            if gone + last > most:
                break
            units = tuple(ranked[first:last])
            key = float(score[units[-1]]) if rules.scope == "global" else (gone + last) / initial
            blocks.append(Block(name, units, key))
            first = last
    return sorted(blocks, key=lambda block: block.key)


def within_ratio(order: list[Block], ratio: float, rules: Rules, scores: Mapping[str, Tensor]) -> int:
    """Return how many blocks of an order may go so that no more than a share of the initial units is gone.

    Args:
        order: As `removal_order` gives it.
        ratio: The share, of each layer's units, or of all in the global scope.
        rules: As for the order.
        scores: As for the order.
    """
    if rules.scope == "layer":
        return sum(block.key <= ratio + _CLOSE for block in order)
    initial = sum(rules.initial[name] for name in scores)
    budget = int(initial * ratio + _CLOSE) - (initial - sum(map(len, scores.values())))
    count = 0
    for block in order:
        budget -= len(block.units)
        if budget < 0:
            break
        count += 1
    return count


def by_name(blocks: list[Block]) -> dict[str, list[int]]:
    """Return the units of blocks by layer."""
    chosen: dict[str, list[int]] = {}
    for block in blocks:
        chosen.setdefault(block.name, []).extend(block.units)
    return chosen
