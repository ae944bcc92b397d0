"""What a learned confidence knows of one stage."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

_Finite = Annotated[float, Field(allow_inf_nan=False)]


class Gate(BaseModel):
    """The parameters of a stage's learned confidence; with the defaults it is about the largest evidence.

    Attributes:
        constant: Of the log-odds that leaving loses nothing.
        largest: Weight of the log-odds of the largest evidence.
        second: Weight of those of the second largest.
        margin: Weight of the largest less the second largest.
        offsets: What each predicted class adds, in the order of classes; 0 for those beyond the last.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    constant: _Finite = 0.0
    largest: _Finite = 1.0
    second: _Finite = 0.0
    margin: _Finite = 0.0
    offsets: tuple[_Finite, ...] = ()
