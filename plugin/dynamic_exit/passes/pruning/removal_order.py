"""Which units are removed, and in which order."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

# rounding error of a share of integers in floating point
_CLOSE = 1e-9


@dataclass(frozen=True)
class Block:
    """Units of one layer that are removed together.

    Attributes:
        name: Of the layer.
        units: Their indices in the layer.
        key: Blocks with smaller keys are removed first; in the scope ``layer`` it is the ratio at which this one is.
    """

    name: str
    units: tuple[int, ...]
    key: float


@dataclass(frozen=True)
class Rules:
    """How much may be removed.

    Attributes:
        scope: ``layer`` or ``global``.
        initial: For each layer, the number of units before any was removed.
        max_ratio: Maximum share of a layer's units to remove; at least one unit stays.
        round_to: The units left in a layer are a multiple of this.
    """

    scope: str
    initial: Mapping[str, int]
    max_ratio: float
    round_to: int


def removal_order(scores: Mapping[str, Tensor], rules: Rules) -> list[Block]:
    """Return all blocks that may be removed, the least important first.

    Args:
        scores: For each layer, the importance of its current units, (U,).
        rules: How much may be removed.
    """
    blocks = []
    for name, score in scores.items():
        initial, now = rules.initial[name], len(score)
        gone, most = initial - now, min(initial - 1, int(initial * rules.max_ratio + _CLOSE))
        ranked = torch.argsort(score, stable=True).tolist()
        first = 0
        while first < now:
            # the first block leaves a multiple of `round_to`
            last = first + ((now - first) % rules.round_to or rules.round_to)
            if gone + last > most:
                break
            units = tuple(ranked[first:last])
            key = float(score[units[-1]]) if rules.scope == "global" else (gone + last) / initial
            blocks.append(Block(name, units, key))
            first = last
    return sorted(blocks, key=lambda block: block.key)


def within_ratio(order: list[Block], ratio: float, rules: Rules, scores: Mapping[str, Tensor]) -> int:
    """Return how many leading blocks may be removed without exceeding a share of the initial units.

    Args:
        order: Of `removal_order`.
        ratio: The share: of each layer's units, or of all in the scope ``global``.
        rules: As for `removal_order`.
        scores: As for `removal_order`.
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


def units_by_layer(blocks: list[Block]) -> dict[str, list[int]]:
    """Return the units of blocks for each layer."""
    chosen: dict[str, list[int]] = {}
    for block in blocks:
        chosen.setdefault(block.name, []).extend(block.units)
    return chosen
