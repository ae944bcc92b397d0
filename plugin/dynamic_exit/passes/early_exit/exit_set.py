"""All heads under training as one module, and the loss of each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import Training
from .features import Key
from .heads import ExitHead
from .sequence import SequenceNetwork

# a sample that every earlier stage is sure of still counts a little
_LEAST_WEIGHT = 0.05


@dataclass(frozen=True)
class PlacedHead:
    """A head and where it stands.

    Attributes:
        head: The head.
        index: Of the segment behind which it stands.
    """

    head: ExitHead
    index: int

    @property
    def key(self) -> Key:
        """Of its features."""
        return self.index, getattr(self.head.features, "key", f"of {id(self.head)}")


class ExitSet(nn.Module):
    """Heads that are trained side by side; only those of a sequence network share parameters.

    Args:
        exits: Heads by stage name, by depth.
        sequence: Names of the exits of a sequence network by depth, and the network; None where there is none.

    Attributes:
        parts: What is trained apart from the rest, with the places of its exits in `names`.
    """

    def __init__(self, exits: Mapping[str, PlacedHead], sequence: tuple[Sequence[str], SequenceNetwork] | None = None):
        super().__init__()
        self.names = tuple(exits)
        self.keys = tuple(each.key for each in exits.values())
        # a list: a stage's name may hold dots, which a ModuleDict refuses
        self.heads = nn.ModuleList(each.head for each in exits.values())
        depths = [each.index for each in exits.values()]
        self.parts: list[tuple[nn.Module, list[int]]] = [(head, [i]) for i, head in enumerate(self.heads)]
        self.sequence = None
        if sequence:
            names, self.sequence = sequence
            self.parts.append((self.sequence, list(range(len(self.names), len(self.names) + len(names)))))
            self.names += tuple(names)
            depths += self.sequence.places
        self.groups = [[i for i, depth in enumerate(depths) if depth == index] for index in sorted(set(depths))]

    @property
    def seen(self) -> list[Key]:
        """Keys of all features that some head sees, each once."""
        return list(dict.fromkeys([*self.keys, *(self.sequence.keys.values() if self.sequence else ())]))

    def forward(self, features: Mapping[Key, Tensor]) -> Tensor:
        """Answer from what is known at each position.

        Args:
            features: By key, each (B, ...).

        Returns:
            Logits float32 (S, B, C), S heads in the order of `names`.
        """
        answers = [head.answer(features[key]).float() for head, key in zip(self.heads, self.keys, strict=True)]
        return torch.stack(answers) if self.sequence is None else torch.stack([*answers, *self.sequence(features)])

    def prepare(self, features: Mapping[Key, Tensor]) -> None:
        """Let every head look at the features of some training samples before training."""
        for head, key in zip(self.heads, self.keys, strict=True):
            head.prepare(features[key])
        if self.sequence is not None:
            self.sequence.prepare(features)


def losses(logits: Tensor, labels: Tensor, final: Tensor, distillation: float) -> Tensor:
    """Cross-entropy with the labels, mixed with the Kullback-Leibler divergence from the final's probabilities.

    Args:
        logits: float (S, B, C).
        labels: int64 (B,); a sample without label (-1) is compared with the final alone.
        final: The final's logits (B, C).
        distillation: Share of the divergence, in 0..1.

    Returns:
        Losses (S, B).
    """
    mine, final = functional.log_softmax(logits, dim=2), functional.log_softmax(final, dim=1)
    known = (labels >= 0).expand(len(logits), -1)
    divergence = (final.exp() * (final - mine)).sum(2)
    picked = mine.gather(2, labels.clamp(min=0).expand(len(logits), -1).unsqueeze(2)).squeeze(2)
    return torch.where(known, distillation * divergence - (1 - distillation) * picked, divergence)


@torch.no_grad()
def sample_weights(
    logits: Tensor,
    groups: Sequence[Sequence[int]],
    before: Tensor,
    options: Training,
    mean: Callable[[Tensor], Tensor] = lambda values: values.mean(1),
) -> Tensor | None:
    """Weigh each sample at each head by how unsure earlier stages are of it, so that a head learns what reaches it.

    Unsure is one minus the largest probability, the mean over the heads of one position. ``previous`` looks at the
    position before (TinySaver, arXiv 2403.17726), ``reach`` at the surest of all before.

    Args:
        logits: float (S, B, C).
        groups: Heads of each position, by depth.
        before: How unsure the savers are, (B,) in 0..1; ones where there are none.
        options: Which weighting.
        mean: Takes (S, B) to the mean over samples (S,), of other processes' samples too where there are some.

    Returns:
        (S, B) with mean 1 over the samples of each head, or None where all weigh the same.
    """
    if options.weighting == "none":
        return None
    unsure = 1 - torch.softmax(logits, dim=2).amax(2)
    found = torch.empty_like(unsure)
    for group in groups:
        found[list(group)] = before
        now = unsure[list(group)].mean(0)
        before = torch.minimum(before, now) if options.weighting == "reach" else now
    found = found.clamp(min=0) + _LEAST_WEIGHT
    # in float64 the mean of equal weights is that weight, so that dividing by it leaves exactly 1
    return (found / mean(found.double())[:, None]).to(found.dtype)


def uncertainty(savers: Sequence[Tensor]) -> Tensor | None:
    """Return how unsure the surest saver is of each sample: one minus its largest probability.

    Args:
        savers: Logits of each, (N, C).

    Returns:
        float32 (N,) in 0..1, or None where there is no saver.
    """
    if not savers:
        return None
    return 1 - torch.stack([torch.softmax(logits.float(), dim=1).amax(1) for logits in savers]).amax(0)
