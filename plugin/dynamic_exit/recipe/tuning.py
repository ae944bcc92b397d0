"""The stanza `dynamic_exit.tuning`: goals, costs and operating points."""

from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from ..chain import confidence, evidence
from ..chain.evidence import AUTO
from ..chain.goal import Goal
from ..chain.goal_limits import LARGEST_DROP, explain_excessive_budget, explain_excessive_drop
from ..chain.operating_point import BACKBONE
from ..passes import Stanza
from ..passes.stanza import refuse
from .static_choices import StaticSearch


def _within_limit(explain: Callable[[float], str | None]) -> AfterValidator:
    def check(value: float) -> float:
        reason = explain(value)
        if reason:
            raise refuse(reason)
        return value

    return AfterValidator(check)


# an accuracy drop that a user may ask for, and a budget
_Drop = Annotated[
    float, Field(ge=0, json_schema_extra={"maximum": LARGEST_DROP}), _within_limit(explain_excessive_drop)
]
_Budget = Annotated[float, Field(gt=0, json_schema_extra={"maximum": 1}), _within_limit(explain_excessive_budget)]


_Fuse = Annotated[
    str,
    AfterValidator(evidence.registry.RULES.known_name(AUTO)),
    WithJsonSchema({"enum": [AUTO, "none", "mean", "product"], "type": "string"}),
]
_Confidence = Annotated[
    str,
    AfterValidator(confidence.registry.RULES.known_name(AUTO)),
    WithJsonSchema({"enum": [AUTO, "top1", "margin", "learned"], "type": "string"}),
]


class PointGoal(Stanza):
    """The goal of one operating point: a maximum accuracy drop or a budget."""

    name: str | None = Field(None, description="default: made from the goal")
    max_accuracy_drop: _Drop | None = Field(None, description="a share: 0.005 is half a point")
    budget: _Budget | None = Field(None, description="mean cost over the backbone's")

    @property
    def point_name(self) -> str:
        """The point's name; derived from the goal if the recipe gives none."""
        return self.name or Goal(max_accuracy_drop=self.max_accuracy_drop, budget=self.budget).name

    @model_validator(mode="after")
    def _check_goal(self) -> Self:
        if (self.max_accuracy_drop is None) == (self.budget is None):
            raise refuse("must hold either `max_accuracy_drop` or `budget`")
        return self


class Tuning(Stanza):
    """How thresholds are tuned on the calibration split."""

    max_accuracy_drop: _Drop = Field(
        0.005, description="a share, 0.005 is half a point; of the point that is exported as the default"
    )
    guarantee: float | None = Field(None, gt=0.5, lt=1, description="probability with which the drop holds, or null")
    cost: Literal["macs", "latency"] = Field("macs", description="what is saved: multiply-adds or measured seconds")
    batch_size: int = Field(64, ge=1, description="samples in one call where seconds are measured")
    threads: int = Field(1, ge=1, description="threads within an operator where seconds are measured")
    fuse: _Fuse = Field(AUTO, description="how the answers of the stages so far are combined")
    confidence: _Confidence = Field(AUTO, description="what says how sure they are together")
    points: list[PointGoal] = Field([], description="further operating points")
    static_search: StaticSearch | None = Field(None, description="static choices to search for the best stack")

    @property
    def goals(self) -> list[PointGoal]:
        """All goals without duplicates; the default goal comes first unless `points` contains it."""
        # not validated again: a static search measures drops against another backbone, where they may be larger
        default = PointGoal.model_construct(max_accuracy_drop=self.max_accuracy_drop)
        included = any(point.max_accuracy_drop == self.max_accuracy_drop for point in self.points)
        return list(self.points) if included else [default, *self.points]

    @property
    def default_goal(self) -> str:
        """Name of the operating point that is exported as the default."""
        return next(goal.point_name for goal in self.goals if goal.max_accuracy_drop == self.max_accuracy_drop)

    @model_validator(mode="after")
    def _check_guarantee(self) -> Self:
        if self.static_search is not None and self.guarantee is not None:
            raise refuse(
                "has both `guarantee`, a drop against the backbone that ships, and `static_search`, whose drops are "
                "against the given one; keep one"
            )
        return self

    @model_validator(mode="after")
    def _check_points(self) -> Self:
        goals = [(goal.max_accuracy_drop, goal.budget) for goal in self.goals]
        names = [goal.point_name for goal in self.goals]
        if len(set(goals)) < len(goals) or len(set(names)) < len(names):
            raise refuse("holds a point twice; give every point its own goal and name")
        if BACKBONE in names:
            raise refuse(f"calls a point '{BACKBONE}', which is the backbone alone; give it another name")
        return self
