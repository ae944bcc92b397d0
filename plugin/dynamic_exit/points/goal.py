"""Goals: what operating points are tuned for."""

import math
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator


class Goal(BaseModel):
    """What a point is tuned for: exactly one of three, and perhaps a limit on what groups lose.

    Attributes:
        max_accuracy_drop: The largest drop below the backbone's accuracy, as a share (0.005 is half a point); negative
            asks for a gain.
        max_risk_increase: The largest increase over the backbone's risk, in 0..1, where the risk is not accuracy.
        budget: The largest mean cost, as a share of the backbone's (> 0).
        max_class_drop: The largest drop, or increase of risk, of any class or group, as a share; none if None.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_accuracy_drop: Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)] | None = None
    max_risk_increase: Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)] | None = None
    budget: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    max_class_drop: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> "Goal":
        given = [each for each in (self.max_accuracy_drop, self.max_risk_increase, self.budget) if each is not None]
        if len(given) != 1:
            raise ValueError("a goal is either a max_accuracy_drop, a max_risk_increase or a budget")
        if self.budget is not None and self.max_class_drop is not None:
            raise ValueError("a max_class_drop limits an allowed drop; a budget has none")
        return self

    @model_serializer
    def _without_none(self) -> dict[str, float]:
        # the other one is not written
        return {name: value for name, value in self.__dict__.items() if value is not None}

    @property
    def allowed_drop(self) -> float:
        """The allowed drop of accuracy, or increase of risk, as a share; infinite for a budget."""
        if self.max_accuracy_drop is not None:
            return self.max_accuracy_drop
        return math.inf if self.max_risk_increase is None else self.max_risk_increase

    def allowing(self, drop: float) -> "Goal":
        """Return the same goal with another allowed drop, or increase of risk."""
        key = "max_risk_increase" if self.max_accuracy_drop is None else "max_accuracy_drop"
        return Goal.model_validate({key: drop, "max_class_drop": self.max_class_drop})

    @property
    def name(self) -> str:
        """The name of a point for this goal: ``accuracy-drop-0.5%``, ``risk-increase-0.5%`` or ``budget-40%``."""
        if self.budget is not None:
            return f"budget-{_percent(self.budget)}%"
        if self.max_risk_increase is not None:
            return f"risk-increase-{_percent(self.allowed_drop)}%"
        return f"accuracy-drop-{_percent(self.allowed_drop)}%"


def _percent(share: float) -> str:
    return f"{round(100 * share, 10):g}"
