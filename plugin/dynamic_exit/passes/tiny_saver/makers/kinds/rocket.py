"""ROCKET: random convolutions of series, the largest output and the share of positive outputs of each."""

from collections.abc import Mapping

from pydantic import Field
from torch import Tensor

from ..rocket.maker import RocketMakerBase, RocketStanza


class RocketKernelStanza(RocketStanza):
    """ROCKET (arXiv 1910.13051) for series (N, channels, length), pruned to the share."""

    kernels: int = Field(10_000, ge=32, description="random kernels that are drawn")


class RocketMaker(RocketMakerBase):
    """Makes ROCKET classifiers."""

    kind = "rocket"
    takes = "one input of float series (channels, length), 11 steps or longer"
    Options = RocketKernelStanza

    @classmethod
    def is_automatic(cls, inputs: Mapping[str, Tensor]) -> bool:
        """Return False: MiniRocket is as accurate, and faster to fit and to export."""
        return False

    @property
    def count(self) -> int:
        """Kernels to choose from."""
        return self.stanza.kernels


KIND = RocketMaker
