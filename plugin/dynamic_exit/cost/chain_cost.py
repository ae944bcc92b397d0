"""Own and prefix cost of every stage of a chain, from the costs of its parts."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..chain.names import FINAL


class ExitCost(NamedTuple):
    """The cost of an exit's head.

    Attributes:
        place: Index of the segment after which the exit stands.
        head: Per sample.
        reads_taps: Whether the head reads taps.
    """

    place: int
    head: float
    reads_taps: bool = False


class ChainCost(NamedTuple):
    """Costs per sample by stage name, the final included, as records hold them.

    Attributes:
        own: Of the stage itself: a saver's whole model, an exit's head with the taps it reads, 0 for the final.
        prefix: Of the backbone up to the stage: 0 for a saver, the whole backbone for the final.
        unit: ``macs`` or ``seconds``.
    """

    own: Mapping[str, float]
    prefix: Mapping[str, float]
    unit: str = "macs"


def chain_cost(
    savers: Mapping[str, float],
    segments: Sequence[float],
    exits: Mapping[str, ExitCost],
    taps: Mapping[int, float] | None = None,
    unit: str = "macs",
) -> ChainCost:
    """Add up the costs of a chain's parts.

    An exit that reads taps pays for all taps up to its position, also for those that another such exit in use has paid
    for already; a sample that leaves at another exit before it pays for none.

    Args:
        savers: By stage name, in chain order.
        segments: The backbone's, in order.
        exits: By stage name.
        taps: By index of the segment that they read; -1 for the last saver's logits.
        unit: ``macs`` or ``seconds``.
    """
    reached = list(itertools.accumulate(segments))
    own, prefix = dict(savers), dict.fromkeys(savers, 0.0)
    for name, (place, head, reads_taps) in exits.items():
        own[name] = head + sum(cost for at, cost in (taps or {}).items() if reads_taps and at <= place)
        prefix[name] = float(reached[place])
    return ChainCost({**own, FINAL: 0.0}, {**prefix, FINAL: float(reached[-1])}, unit)
