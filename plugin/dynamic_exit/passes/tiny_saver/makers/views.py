"""Views of training samples: augmented, mixed in pairs, or with tokens left out.

A backbone that has memorized its training split says something new only on inputs that it has not seen. A view depends
only on the seed, the rows and its number, so that it is computed again rather than kept.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ....core.hashing import array_fingerprint, digest
from ....core.model_fingerprint import function_fingerprint
from ...augment import make_augment

#: Share of tokens that a mixed view of text leaves out.
TOKEN_DROPOUT = 0.15
#: Of series: largest shift and cut (shares of the length), change of scale, and noise (in standard deviations).
SHIFT, CUT, SCALE, NOISE = 0.05, 0.1, 0.1, 0.05


class Views:
    """Views of samples, numbered from 0.

    Images (N, C, H, W) are augmented, and in every second view mixed in pairs: by mixup (arXiv 1710.09412) with a
    weight from Beta(1, 1), or by cutmix (arXiv 1905.04899). Series (N, C, L) are shifted, cut and stretched, scaled,
    disturbed by noise, and mixed by mixup. Token ids (N, L) beside a mask lose some tokens from it in every
    second view.

    Args:
        inputs: By name, each (N, ...).
        augment: Of images: a name as in a recipe, or ``none``.
        mix: Whether every second view is mixed.
        seed: Of all random numbers.
        rows: int64 (M,), of the samples that are mixed with each other; others are seen alone, and never in these.
            None for all.
        plain: Whether the first view is the samples as they are.
    """

    def __init__(
        self,
        inputs: Mapping[str, Tensor],
        augment: str,
        mix: bool,
        seed: int,
        rows: Tensor | None = None,
        plain: bool = True,
    ):
        self.inputs, self.mix, self.seed, self.plain = inputs, mix, seed, plain
        self.count = len(next(iter(inputs.values())))
        self.rows = torch.arange(self.count) if rows is None else rows
        self._images = any(tensor.dim() == 4 for tensor in inputs.values())
        self._augment = make_augment(augment, self.count, seed) if self._images else None
        self._text = any(name.endswith("mask") for name in inputs)
        self._series = any(tensor.dim() == 3 and tensor.is_floating_point() for tensor in inputs.values())
        pairs = array_fingerprint(self.rows.numpy()) if mix and (self._images or self._series) else ""
        self._made_of = digest(augment if self._images else "", function_fingerprint(augment), str([mix, seed]), pairs)

    def name(self, view: int) -> str:
        """Return a name that covers all that decides a view besides the samples."""
        mixed = self._is_second(view) and (self._text or self._images)
        changed = not (self.plain and view == 0) and (mixed or self._series or self._augment is not None)
        return digest("view", self._made_of, str(view)) if changed else "plain"

    def is_mixed(self, view: int) -> bool:
        """Whether a view joins two samples, so that its labels say little."""
        return self._is_second(view) and not self._text and (self._images or self._series)

    def __call__(self, rows: Tensor, view: int) -> dict[str, Tensor]:
        """Return one view of the samples of some rows, int64 (B,): inputs by name, of their dtypes and shapes."""
        if self.plain and view == 0:
            return {name: tensor[rows] for name, tensor in self.inputs.items()}
        if self._text:
            return self._without_tokens(rows, view)
        return {name: self._view(tensor, rows, view) for name, tensor in self.inputs.items()}

    def _is_second(self, view: int) -> bool:
        return self.mix and view % 2 == 1

    def _random(self, view: int, what: int, *shape: int) -> Tensor:
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + view) * 16 + what)
        return torch.rand(*shape, generator=generator)

    def _view(self, tensor: Tensor, rows: Tensor, view: int) -> Tensor:
        if tensor.dim() not in (3, 4) or (tensor.dim() == 3 and not tensor.is_floating_point()):
            return tensor[rows]
        if not self.is_mixed(view):
            return self._augmented(tensor, rows, view)
        one, other = (self._augmented(tensor, each, view) for each in (rows, self._partners(view)[rows]))
        weight = self._random(view, 0, self.count)[rows]
        cut = view % 4 == 3 and tensor.dim() == 4
        return self._cut_in(one, other, weight, rows, view) if cut else _mix(one, other, weight)

    def _partners(self, view: int) -> Tensor:
        """Return the sample that each is mixed with, int64 (N,)."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + view)
        partners = torch.arange(self.count)
        partners[self.rows] = self.rows[torch.randperm(len(self.rows), generator=generator)]
        return partners

    def _augmented(self, tensor: Tensor, rows: Tensor, view: int) -> Tensor:
        if tensor.dim() == 4:
            return tensor[rows] if self._augment is None else self._augment(tensor[rows], rows, view)
        return self._disturbed(tensor[rows], rows, view)

    def _cut_in(self, one: Tensor, other: Tensor, weight: Tensor, rows: Tensor, view: int) -> Tensor:
        """Put a rectangle of `other` into `one` that covers about 1 - weight of it."""
        height, width = one.shape[2:]
        side = (1 - weight).sqrt()
        down, right = (self._random(view, what, self.count)[rows] * (1 - side) for what in (1, 2))
        lines, columns = torch.arange(height) / height, torch.arange(width) / width
        inside_y = (lines >= down[:, None]) & (lines < (down + side)[:, None])
        inside_x = (columns >= right[:, None]) & (columns < (right + side)[:, None])
        return torch.where(inside_y[:, None, :, None] & inside_x[:, None, None, :], other, one)

    def _disturbed(self, series: Tensor, rows: Tensor, view: int) -> Tensor:
        """Shift, stretch, scale and disturb series (B, C, L); what is shifted in repeats the first or last value."""
        length = series.shape[2]
        numbers = self._random(view, 3, 3, self.count)[:, rows]
        start = (2 * numbers[0] - 1) * SHIFT * length
        step = 1 - numbers[1] * CUT
        places = (start[:, None] + torch.arange(length) * step[:, None]).clamp(0, length - 1)
        below = places.floor().long()
        above, part = (below + 1).clamp(max=length - 1), (places - below)[:, None]
        first, second = (series.gather(2, index[:, None].expand(-1, series.shape[1], -1)) for index in (below, above))
        moved = first * (1 - part) + second * part
        scale = 1 + (2 * numbers[2, :, None, None] - 1) * SCALE
        spread = series.std(dim=2, keepdim=True, unbiased=False)
        generator = torch.Generator()
        noise = []
        for row in rows.tolist():
            generator.manual_seed((self.seed * 1_000_003 + view) * self.count + row)
            noise.append(torch.randn(series.shape[1:], generator=generator))
        return (moved * scale + NOISE * spread * torch.stack(noise)).to(series.dtype)

    def _without_tokens(self, rows: Tensor, view: int) -> dict[str, Tensor]:
        batch = {name: tensor[rows] for name, tensor in self.inputs.items()}
        if not self._is_second(view):
            return batch
        for name, mask in batch.items():
            if name.endswith("mask"):
                generator, kept = torch.Generator(), []
                for row in rows.tolist():
                    generator.manual_seed((self.seed * 1_000_003 + view) * self.count + row)
                    kept.append(torch.rand(mask.shape[1], generator=generator) >= TOKEN_DROPOUT)
                keep = torch.stack(kept)
                keep[:, 0] = True  # the first token is the one that some classifiers read
                batch[name] = mask * keep.to(mask.dtype)
        return batch


def _mix(one: Tensor, other: Tensor, weight: Tensor) -> Tensor:
    share = weight.reshape(-1, *[1] * (one.dim() - 1))
    mixed = one.float() * share + other.float() * (1 - share)
    return mixed.to(one.dtype) if one.is_floating_point() else mixed.round().to(one.dtype)
