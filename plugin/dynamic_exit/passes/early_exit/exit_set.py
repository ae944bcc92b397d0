"""All heads in training as one module, their losses and the weights of samples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import Training
from .features import Key
from .heads import ExitHead
from .sequence import SequenceNetwork

# weight of a sample that every earlier stage is certain of
_MIN_WEIGHT = 0.05


@dataclass(frozen=True)
class PlacedHead:
    """A head and its position.

    Attributes:
        head: The head.
        index: Of the segment that it follows.
    """

    head: ExitHead
    index: int

    @property
    def key(self) -> Key:
        """Key of its features; features without a ``key`` are not shared with other heads."""
        return self.index, getattr(self.head.features, "key", f"of {id(self.head)}")


@dataclass(frozen=True)
class SequenceExits:
    """The exits of a sequence network.

    Attributes:
        names: Of the exits, by depth.
        network: Their network.
    """

    names: Sequence[str]
    network: SequenceNetwork


class ExitSet(nn.Module):
    """Heads that are trained together; only those of a sequence network share parameters.

    Args:
        exits: Heads by stage name, by depth.
        sequence: The exits of a sequence network; None without one.

    Attributes:
        names: Of all exits, those of the sequence network last.
        parts: Independently trained modules, each with the indices of its exits in `names`.
        groups: For each position, by depth, the indices of its exits in `names`.
    """

    def __init__(self, exits: Mapping[str, PlacedHead], sequence: SequenceExits | None = None):
        super().__init__()
        self.names = tuple(exits)
        self.keys = tuple(each.key for each in exits.values())
        # a list: a stage's name may contain dots, which a ModuleDict refuses
        self.heads = nn.ModuleList(each.head for each in exits.values())
        depths = [each.index for each in exits.values()]
        self.parts: list[tuple[nn.Module, list[int]]] = [(head, [i]) for i, head in enumerate(self.heads)]
        self.sequence: SequenceNetwork | None = None
        if sequence:
            self.sequence = sequence.network
            self.parts.append((self.sequence, list(range(len(self.names), len(self.names) + len(sequence.names)))))
            self.names += tuple(sequence.names)
            depths += self.sequence.positions
        self.groups = [[i for i, depth in enumerate(depths) if depth == index] for index in sorted(set(depths))]

    @property
    def feature_keys(self) -> list[Key]:
        """Keys of all features that any head reads, each once."""
        return list(dict.fromkeys([*self.keys, *(self.sequence.keys.values() if self.sequence else ())]))

    def forward(self, features: Mapping[Key, Tensor]) -> Tensor:
        """Compute the logits of all heads.

        Args:
            features: By key, each (B, ...).

        Returns:
            Logits float32 (S, B, C), S heads in the order of `names`.
        """
        logits = [head.answer(features[key]).float() for head, key in self._heads_and_keys()]
        return torch.stack(logits) if self.sequence is None else torch.stack([*logits, *self.sequence(features)])

    def prepare(self, features: Mapping[Key, Tensor]) -> None:
        """Let every head look at the features of some training samples before training."""
        for head, key in self._heads_and_keys():
            head.prepare(features[key])
        if self.sequence is not None:
            self.sequence.prepare(features)

    def _heads_and_keys(self) -> list[tuple[ExitHead, Key]]:
        return list(zip(cast(Sequence[ExitHead], self.heads), self.keys, strict=True))


def losses(logits: Tensor, labels: Tensor, final: Tensor, distillation: float) -> Tensor:
    """Cross-entropy with the labels, mixed with the Kullback-Leibler divergence from the final's probabilities.

    Args:
        logits: float (S, B, C).
        labels: int64 (B,); a sample without a label (-1) has the divergence alone.
        final: The final's logits (B, C).
        distillation: Share of the divergence, in 0..1.

    Returns:
        Losses (S, B).
    """
    log_probabilities, log_targets = functional.log_softmax(logits, dim=2), functional.log_softmax(final, dim=1)
    known = (labels >= 0).expand(len(logits), -1)
    divergence = (log_targets.exp() * (log_targets - log_probabilities)).sum(2)
    index = labels.clamp(min=0).expand(len(logits), -1).unsqueeze(2)
    of_label = log_probabilities.gather(2, index).squeeze(2)
    return torch.where(known, distillation * divergence - (1 - distillation) * of_label, divergence)


@torch.no_grad()
def sample_weights(
    logits: Tensor,
    groups: Sequence[Sequence[int]],
    of_savers: Tensor,
    options: Training,
    mean: Callable[[Tensor], Tensor] = lambda values: values.mean(1),
) -> Tensor | None:
    """Weigh each sample at each head by the uncertainty of earlier stages, so that a head learns what reaches it.

    Uncertainty is one minus the largest probability, averaged over the heads of one position. With ``previous`` it is
    that of the position before (TinySaver, arXiv 2403.17726), with ``reach`` the smallest of all before.

    Args:
        logits: float (S, B, C).
        groups: Indices of the heads of each position, by depth.
        of_savers: Uncertainty of the savers, (B,) in 0..1; ones without savers.
        options: The weighting.
        mean: From (S, B) to the mean over samples (S,), those of other processes included.

    Returns:
        (S, B) with mean 1 over the samples of each head, or None if all weigh the same.
    """
    if options.weighting == "none":
        return None
    of_heads = 1 - torch.softmax(logits, dim=2).amax(2)
    weights, before = torch.empty_like(of_heads), of_savers
    for group in groups:
        weights[list(group)] = before
        here = of_heads[list(group)].mean(0)
        before = torch.minimum(before, here) if options.weighting == "reach" else here
    weights = weights.clamp(min=0) + _MIN_WEIGHT
    # in float64 the mean of equal weights is exactly that weight, so that dividing by it gives exactly 1
    return (weights / mean(weights.double())[:, None]).to(weights.dtype)


def uncertainty(savers: Sequence[Tensor]) -> Tensor | None:
    """Return the uncertainty of the most certain saver for each sample: one minus its largest probability.

    Args:
        savers: Logits of each, (N, C).

    Returns:
        float32 (N,) in 0..1, or None without savers.
    """
    if not savers:
        return None
    return 1 - torch.stack([torch.softmax(logits.float(), dim=1).amax(1) for logits in savers]).amax(0)
