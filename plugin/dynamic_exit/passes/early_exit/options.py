"""What `attach_exits` is told: the frozen backbone, the training samples, and how heads are trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from ...core.batching import DEFAULT_BATCH_SIZE
from ...graph import Cut
from .config import EarlyExitStanza


class BackboneSegment(Protocol):
    """One segment of the backbone: a torch module or a session of an exported part."""

    @property
    def input_names(self) -> Sequence[str]:
        """Names of its arguments: ``hidden`` is the output of the previous segment, others are inputs of the model."""

    def __call__(self, *tensors: Tensor) -> Tensor:
        """Map the tensors named by `input_names`, batch first, to the hidden state or the logits (N, C)."""


@dataclass(frozen=True)
class FrozenBackbone:
    """The backbone that exits are attached to; it stays as it is.

    Attributes:
        segments: One more than `cuts`, by depth.
        cuts: Where heads are attached.
        classes: Number of classes C.
        macs: Multiply-adds per sample of the whole backbone. If known, a head is left out that costs more than an exit
            behind its cut could save.
        digest: Identifies the segments: cached features of other ones in the same folder are not used.
    """

    segments: Sequence[BackboneSegment]
    cuts: Sequence[Cut]
    classes: int
    macs: float | None = None
    digest: str = ""


@dataclass(frozen=True)
class TrainingSamples:
    """The training split as exit heads see it.

    Attributes:
        inputs: The model's inputs by name, each (N, ...). An input (N, L) of a segment whose name ends in ``mask`` is
            the mask of tokens (N, L, C).
        labels: int64 (N,), -1 where unknown.
        uncertainty: Of the savers for each sample, float (N,) in 0..1, to weigh samples; None without savers.
    """

    inputs: Mapping[str, Tensor]
    labels: Tensor
    uncertainty: Tensor | None = None


@dataclass(frozen=True)
class ExitTraining:
    """How exit heads are trained.

    Attributes:
        stanza: Kinds of heads, epochs, rates, loss and cache.
        seed: Initial weights of the heads, order of the samples and their augmentation.
        batch_size: Samples per run of the segments.
        workdir: Folder of the cached features and the checkpoint; None means a temporary one.
        resume: Continue from the checkpoint in `workdir`, if there is one.
        device: Where heads are trained; None means a GPU if there is one.
    """

    stanza: EarlyExitStanza
    seed: int = 0
    batch_size: int = DEFAULT_BATCH_SIZE
    workdir: str | Path | None = None
    resume: bool = False
    device: str | None = None
