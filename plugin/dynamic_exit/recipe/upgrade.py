"""The stanza `upgrade`: larger backbones, one of which answers what the model of today leaves over."""

from pydantic import Field

from ..passes import AnyModelSource, Stanza


class Upgrade(Stanza):
    """Better answers for what `model` costs today: the best of some larger backbones, behind it and other savers."""

    backbones: list[AnyModelSource] = Field(
        min_length=1,
        description="trained models of the same classes that cost more than `model`; the one whose chain is right most "
        "often at the budget is written",
    )
