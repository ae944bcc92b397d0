"""MiniRocket: 84 fixed convolutions of series by dilation, the shares of outputs above biases."""

from pydantic import Field

from ..rocket.maker import RocketMakerBase, RocketStanza


class MiniRocketStanza(RocketStanza):
    """MiniRocket (arXiv 2012.08791) for series (N, channels, length), pruned to the share."""

    features: int = Field(10_000, ge=84, description="features to choose from; each kernel has several")
    keep: float = Field(0.36, gt=0, le=1, description="share of all multiply-adds that pruning leaves at most")


class MiniRocketMaker(RocketMakerBase):
    """Makes MiniRocket classifiers."""

    kind = "minirocket"
    takes = "one input of float series (channels, length), 9 steps or longer"
    Options = MiniRocketStanza

    @property
    def count(self) -> int:
        """Features to choose from."""
        return self.stanza.features


KIND = MiniRocketMaker
