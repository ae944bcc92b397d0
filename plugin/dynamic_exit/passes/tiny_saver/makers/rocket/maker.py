"""What the makers of ROCKET and MiniRocket classifiers have in common."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ....training import TrainingRun
from ..base import Architecture, MadeSaver, SaverMaker
from ..stanza import MakerStanza
from ..teaching import Teaching
from .checks import check_series
from .classifier import KINDS, Kind, RocketClassifier
from .features import GroupShape, SeriesFeatures
from .fit import RocketOptions, fit_rocket
from .pruning import within_budget

#: Kernels of the smallest classifier, and how much more the next larger one costs.
FEWEST, STEP = 32, 2**0.5


class RocketStanza(MakerStanza):
    """Convolutions that are not trained, a ridge classifier on their outputs, and pruning down to the share."""

    prune: Literal["pocket", "detach", "none"] = Field(
        "pocket", description="how kernels are chosen out of all; none: no more are made than the share allows"
    )
    keep: float = Field(0.32, gt=0, le=1, description="share of all multiply-adds that pruning leaves at most")
    quantize: bool = Field(False, description="true: quantized as `quantization` says, which changes features much")


class RocketMakerBase(SaverMaker):
    """Makes classifiers of one kind; for a larger share, more of the same kernels are kept."""

    prunes = True
    kind: ClassVar[Kind]
    Options: ClassVar[type[MakerStanza]] = RocketStanza

    @property
    @abstractmethod
    def count(self) -> int:
        """Kernels or features to choose from."""

    @classmethod
    def suits(cls, inputs: Mapping[str, Tensor]) -> bool:
        """Return whether there is one input of float series (N, channels, length), no shorter than a kernel."""
        tensors = list(inputs.values())
        fits = len(tensors) == 1 and tensors[0].dim() == 3 and tensors[0].is_floating_point()
        return fits and tensors[0].shape[2] >= KINDS[cls.kind].min_length

    @property
    def input_names(self) -> tuple[str, ...]:
        """Name of the series."""
        return tuple(self.task.inputs)

    def architectures(self, share: float) -> Sequence[Architecture]:
        """Return classifiers of more and more kernels, of the shapes that one draw gives."""
        (series,) = self.task.inputs.values()
        check_series(series, self.kind)
        family: list[tuple[float, Architecture]] = []
        for count, keep in self._sizes():
            features = KINDS[self.kind].fit(series, count, 0)
            costs = features.kernel_macs(series.shape[2])
            if keep < 1:
                order = torch.rand(len(costs), generator=torch.Generator().manual_seed(0))
                features = features.select(within_budget(order, costs, keep * float(costs.sum())))
            cost = float(features.kernel_macs(series.shape[2]).sum())
            if family and cost <= family[-1][0]:  # more features of as many kernels
                family.pop()
            family.append((cost, _describe(features, count, keep)))
        return [architecture for _, architecture in family]

    def build(self, architecture: Architecture) -> RocketClassifier:
        """Build an unfitted classifier."""
        (series,) = self.task.inputs.values()
        shapes = [GroupShape(*shape) for shape in architecture["groups"]]
        return RocketClassifier.of_shapes(self.kind, shapes, series.shape[1], self.task.classes)

    def fit(self, architecture: Architecture, teaching: Teaching, run: TrainingRun) -> MadeSaver:
        """Fit a classifier; see `SaverMaker.fit`. Where a label is unknown, the backbone's answer counts as correct."""
        (series,) = teaching.inputs.values()
        count, keep = architecture["count"], architecture["keep"]
        prune = None if self.stanza.prune == "none" else self.stanza.prune
        fitted = fit_rocket(
            series, teaching.truth, teaching.classes, RocketOptions(self.kind, count, prune, keep, run.seed)
        )
        return MadeSaver(_describe(fitted.classifier.features, count, keep), fitted.classifier)

    def _sizes(self) -> Iterator[tuple[int, float]]:
        """Yield how many kernels or features there are and which share is kept, from few to many."""
        largest = self.count if self.stanza.prune == "none" else self.stanza.keep * self.count
        steps = 0
        while largest / STEP ** (steps + 1) >= FEWEST:
            steps += 1
        for step in range(steps, -1, -1):
            shrink = STEP**-step
            yield (
                (int(self.count * shrink), 1.0)
                if self.stanza.prune == "none"
                else (self.count, self.stanza.keep * shrink)
            )


def _describe(features: SeriesFeatures, count: int, keep: float) -> dict[str, Any]:
    shapes = [list(group.shape) for group in features.kernel_groups]
    return {"count": count, "keep": keep, "groups": shapes}
