"""Goals: what operating points are tuned for."""

import math
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator


class Goal(BaseModel):
    """What a point is tuned for: exactly one of two.

    Attributes:
        max_accuracy_drop: The largest drop below the backbone's accuracy, as a share (0.005 is half a point); negative
            asks for a gain.
        budget: The largest mean cost, as a share of the backbone's (> 0).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_accuracy_drop: Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)] | None = None
    budget: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> "Goal":
        if (self.max_accuracy_drop is None) == (self.budget is None):
            raise ValueError("a goal is either a max_accuracy_drop or a budget")
        return self

    @model_serializer
    def _without_none(self) -> dict[str, float]:
        # the other one is not written
        return {name: value for name, value in self.__dict__.items() if value is not None}

    @property
    def allowed_drop(self) -> float:
        """The allowed drop, as a share; infinite for a budget."""
        return math.inf if self.max_accuracy_drop is None else self.max_accuracy_drop

    @property
    def name(self) -> str:
        """The name of a point for this goal: ``accuracy-drop-0.5%`` or ``budget-40%``."""
        if self.budget is not None:
            return f"budget-{_percent(self.budget)}%"
        return f"accuracy-drop-{_percent(self.allowed_drop)}%"


def _percent(share: float) -> str:
    return f"{round(100 * share, 10):g}"
