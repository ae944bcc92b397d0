"""Where exits go."""

from collections.abc import Sequence

from ...errors import CutError, nearest
from ...graph import Cut

#: An exit behind this share of the backbone's cost has nothing left to save.
LATEST = 0.97


def choose_cuts(cuts: Sequence[Cut], positions: str | Sequence[str], count: int) -> list[Cut]:
    """Choose the cuts that get exit heads.

    Args:
        cuts: All cuts of the backbone, by depth.
        positions: ``auto`` (spread evenly by cost), ``all``, or names.
        count: How many ``auto`` picks.

    Returns:
        The chosen cuts, by depth.

    Raises:
        CutError: The backbone has no usable cut, or a name is unknown.
    """
    useful = [cut for cut in cuts if 0 < cut.share < LATEST]
    if not useful:
        raise CutError(
            "the backbone has no usable cut: nowhere does one tensor alone carry everything on; "
            "leave `early_exit` out of the recipe"
        )
    if positions == "all":
        return useful
    if positions == "auto":
        targets = [(i + 1) / (count + 1) for i in range(count)]
        picked = {min(useful, key=lambda cut: abs(cut.share - target)).index for target in targets}
        spare = [cut for cut in useful if cut.index not in picked]
        while spare and len(picked) < count:  # two targets met at one cut
            picked.add(spare.pop(0).index)
        return [cut for cut in useful if cut.index in picked]
    by_name = {cut.name: cut for cut in cuts}
    for name in positions:
        if name not in by_name:
            raise CutError(f"the backbone has no cut '{name}'; {nearest(name, by_name)}")
    return sorted({by_name[name].index: by_name[name] for name in positions}.values(), key=lambda cut: cut.index)
