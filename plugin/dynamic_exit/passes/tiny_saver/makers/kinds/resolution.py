"""The backbone itself on smaller images."""

import copy
from collections.abc import Mapping, Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from .....errors import PassError, first_line
from .....graph import Classifier
from ....training import TrainingRun
from ..base import Architecture, MadeSaver
from ..stanza import TrainedMakerStanza
from ..teaching import Teaching
from ..trained import TrainedMaker

# heights that are tried, as shares of the images' own, and what they are rounded to
_SHARES, _STEP = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9), 4


class ResolutionStanza(TrainedMakerStanza):
    """Copies of the backbone that see the images smaller, trained so or as they are."""

    shares: list[float] = Field([0.3], min_length=1, description="costs, as shares of the backbone's")
    epochs: int = Field(0, ge=0, description="passes over the training split; 0: the backbone's weights as they are")
    learning_rate: float = Field(3e-4, gt=0, description="peak rate of AdamW, after a warm-up and before cosine decay")


class ResolutionMaker(TrainedMaker):
    """Makes copies of image backbones for smaller images; the backbone must take them."""

    Options = ResolutionStanza
    takes = "one input of images, 16 x 16 pixels or more"

    @classmethod
    def suits(cls, inputs: Mapping[str, Tensor]) -> bool:
        """Return whether there is one input of images, of at least 16 x 16 pixels."""
        shapes = [tensor.shape for tensor in inputs.values()]
        return len(shapes) == 1 and len(shapes[0]) == 4 and min(shapes[0][2:]) >= 16

    @classmethod
    def is_automatic(cls, inputs: Mapping[str, Tensor]) -> bool:
        """Return False: a network of its own is cheaper."""
        return False

    @property
    def input_names(self) -> tuple[str, ...]:
        """Name of the images."""
        return tuple(self.task.inputs)

    def architectures(self, share: float) -> Sequence[Architecture]:
        """Return all sizes that the backbone takes."""
        (images,) = self.task.inputs.values()
        height, width = images.shape[2:]
        sizes = {(_rounded(part * height), _rounded(part * width)): None for part in _SHARES}
        family, reason = [], ""
        for size in sizes:
            if size[0] >= height or size[1] >= width:
                continue
            try:
                with torch.no_grad():
                    self.build({"size": [*size]})(images[:2])
            except Exception as error:  # code of users may raise anything
                reason = first_line(error)
                continue
            family.append({"size": [*size]})
        if not family:
            raise PassError(f"maker 'resolution' needs a backbone that takes smaller images; this one fails: {reason}")
        return family

    def build(self, architecture: Architecture) -> nn.Module:
        """Build a copy of the backbone behind a resize."""
        assert isinstance(self.task.backbone, Classifier)
        return Smaller(copy.deepcopy(self.task.backbone), *architecture["size"])

    def fit(self, architecture: Architecture, teaching: Teaching, run: TrainingRun) -> MadeSaver:
        """Train a copy, or take it as it is if there are no epochs."""
        if self.stanza.epochs == 0:
            return MadeSaver(architecture, self.build(architecture).eval())
        return super().fit(architecture, teaching, run)


class Smaller(nn.Module):
    """A classifier behind a resize of its images; in the classifier's own preprocessing no other resize is left.

    Args:
        classifier: Of images.
        height: Of the resized images, in pixels.
        width: Of the resized images, in pixels.
    """

    def __init__(self, classifier: Classifier, height: int, width: int):
        super().__init__()
        self.classifier, self.size = classifier, (height, width)
        if classifier.preprocessing is not None:
            classifier.preprocessing.size = None

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to logits (N, classes)."""
        return self.classifier(functional.interpolate(images.float(), self.size, mode="bilinear", antialias=False))


def _rounded(side: float) -> int:
    return max(_STEP, round(side / _STEP) * _STEP)


KIND = ResolutionMaker
