"""The choice of the cuts where exits are attached."""

import logging
from collections.abc import Callable, Sequence

import torch

from ...cost import count_macs
from ...errors import CutError, nearest
from ...graph import Cut
from .heads import HeadEntry, build_head

logger = logging.getLogger(__name__)

#: An exit behind this share of the backbone's cost could hardly save anything.
MAX_SHARE = 0.97


def choose_cuts(
    cuts: Sequence[Cut],
    positions: str | Sequence[str],
    count: int,
    head_share: Callable[[Cut], float] = lambda cut: 0.0,
) -> list[Cut]:
    """Choose the cuts that get exit heads.

    A cut where even the cheapest head costs no less than the rest of the backbone can never save anything, whatever the
    head answers: it is dropped. With ``auto`` and ``all`` so is a cut where less than 3 % could be saved. The log names
    each dropped cut with the reason.

    Args:
        cuts: All cuts of the backbone, by depth.
        positions: ``auto`` (evenly spaced by cost), ``all``, or names of cuts by depth.
        count: Number of cuts that ``auto`` picks.
        head_share: Cost of the cheapest head at a cut over the backbone's.

    Returns:
        The chosen cuts, by depth.

    Raises:
        CutError: The backbone has no usable cut, or a name is unknown, repeated or out of order.
    """
    named = not isinstance(positions, str)
    candidates = _by_name(cuts, positions) if named else list(cuts)
    useful = [cut for cut in candidates if _can_save(cut, head_share(cut), 1.0 if named else MAX_SHARE)]
    if not useful:
        reason = "behind none of the named positions can an exit pay" if named else (
            "the backbone has no usable cut: nowhere early enough does one tensor alone carry everything on"
        )  # fmt: skip
        raise CutError(f"{reason}; leave `early_exit` out of the recipe")
    if positions != "auto":
        return useful
    targets = [(i + 1) / (count + 1) for i in range(count)]
    picked = {min(useful, key=lambda cut: abs(cut.share - target)).index for target in targets}
    spare = [cut for cut in useful if cut.index not in picked]
    while spare and len(picked) < count:  # the same cut was nearest to two targets
        picked.add(spare.pop(0).index)
    return [cut for cut in useful if cut.index in picked]


def cheapest_head(heads: Sequence[HeadEntry], classes: int, backbone_cost: float) -> Callable[[Cut], float]:
    """Return a function from a cut to the cost of the cheapest head there over the backbone's.

    Args:
        heads: The heads to be tried at each cut.
        classes: Number of classes.
        backbone_cost: Multiply-adds per sample of the whole backbone.

    Returns:
        The function; it returns 0 for a hidden state of dynamic size.
    """

    def share(cut: Cut) -> float:
        sizes = [size for size in cut.shape if isinstance(size, int)]
        if not backbone_cost or len(sizes) < len(cut.shape):
            return 0.0
        example = (torch.zeros(2, *sizes),)
        built = [build_head(entry, cut.shape, classes, cut=cut.name) for entry in heads]
        return min(count_macs(head, example) for head in built) / backbone_cost

    return share


def _by_name(cuts: Sequence[Cut], names: Sequence[str]) -> list[Cut]:
    known = {cut.name: cut for cut in cuts}
    for name in names:
        if name not in known:
            raise CutError(f"the backbone has no cut '{name}'; {nearest(name, known)}")
        if list(names).count(name) > 1:
            raise CutError(f"position '{name}' is written twice; name it once")
    chosen = [known[name] for name in names]
    for before, after in zip(chosen, chosen[1:], strict=False):
        if after.index < before.index:
            raise CutError(
                f"positions are in the wrong order: '{after.name}' comes before '{before.name}' in the backbone; "
                f"write {', '.join(cut.name for cut in sorted(chosen, key=lambda cut: cut.index))}"
            )
    return chosen


def _can_save(cut: Cut, head: float, latest: float) -> bool:
    if cut.share >= latest:
        reason = f"{cut.share:.1%} of the backbone lies before it"
    elif cut.share + head >= 1:
        reason = f"its cheapest head costs {head:.2%} of the backbone, and only {1 - cut.share:.2%} is left to save"
    else:
        return cut.share > 0
    logger.info(f"position {cut.name} is dropped: {reason}")
    return False
