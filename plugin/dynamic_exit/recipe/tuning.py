"""The stanza `dynamic_exit.tuning`: goals, costs and operating points."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    PlainSerializer,
    SerializationInfo,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from ..chain import confidence, evidence
from ..chain.evidence import AUTO
from ..errors import nearest
from ..passes import Stanza
from ..passes.stanza import absolute, refuse, relative
from ..points.goal import Goal
from ..points.goal_limits import LARGEST_DROP, explain_excessive_budget, explain_excessive_drop
from ..points.operating_point import BACKBONE
from ..records.risk import is_file, known_risk
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


def _known_risk(risk: str | list[list[float]], info: ValidationInfo) -> str | list[list[float]]:
    reason = known_risk(risk) if isinstance(risk, str) else None
    if reason:
        raise refuse(reason)
    return absolute(risk, info) if isinstance(risk, str) and is_file(risk) else risk


def _risk_as_written(risk: str | list[list[float]], info: SerializationInfo) -> str | list[list[float]]:
    return relative(risk, info) if isinstance(risk, str) else risk


_Risk = Annotated[str | list[list[float]], AfterValidator(_known_risk), PlainSerializer(_risk_as_written)]
_DROP, _INCREASE = "max_accuracy_drop", "max_risk_increase"


class PointGoal(Stanza):
    """The goal of one operating point: a maximum accuracy drop or increase of risk, or a budget."""

    name: str | None = Field(None, description="default: made from the goal")
    max_accuracy_drop: _Drop | None = Field(None, description="a share: 0.005 is half a point")
    max_risk_increase: _Drop | None = Field(None, description="a share, where `risk` is not accuracy")
    budget: _Budget | None = Field(None, description="mean cost over the backbone's")

    @property
    def point_name(self) -> str:
        """The point's name; derived from the goal if the recipe gives none."""
        return self.name or self.goal().name

    def goal(self, max_class_drop: float | None = None) -> Goal:
        """Return what is searched for.

        Args:
            max_class_drop: The largest drop of any class; budgets have none.
        """
        limit = max_class_drop if self.budget is None else None
        return Goal(
            max_accuracy_drop=self.max_accuracy_drop,
            max_risk_increase=self.max_risk_increase,
            budget=self.budget,
            max_class_drop=limit,
        )

    @model_validator(mode="after")
    def _check_goal(self) -> Self:
        given = [each for each in (self.max_accuracy_drop, self.max_risk_increase, self.budget) if each is not None]
        if len(given) != 1:
            raise refuse("must hold one of `max_accuracy_drop`, `max_risk_increase` and `budget`")
        return self


class Tuning(Stanza):
    """How thresholds are tuned on the calibration split."""

    max_accuracy_drop: _Drop = Field(
        0.005,
        description="a share, 0.005 is half a point; of the point that is exported as the default, and for what int8 "
        "may lose",
    )
    risk: _Risk = Field(
        "accuracy",
        description="what is lost: accuracy, balanced_accuracy, top_5, agreement (with the backbone), a matrix or file "
        "of costs by true class and answer, or file.py:function",
    )
    max_risk_increase: _Drop | None = Field(
        None, description="in place of `max_accuracy_drop` where `risk` is not accuracy; null: 0.005"
    )
    max_class_drop: _Drop | None = Field(None, description="a share; the most that any class may lose, or null")
    guarantee: float | None = Field(None, gt=0.5, lt=1, description="probability with which the drop holds, or null")
    cost: Literal["macs", "latency"] = Field("macs", description="what is saved: multiply-adds or measured seconds")
    batch_size: int = Field(64, ge=1, description="samples in one call where seconds are measured")
    threads: int = Field(1, ge=1, description="threads within an operator where seconds are measured")
    fuse: _Fuse = Field(AUTO, description="how the answers of the stages so far are combined")
    confidence: _Confidence = Field(AUTO, description="what says how sure they are together")
    points: list[PointGoal] = Field([], description="further operating points")
    default_point: str | None = Field(
        None,
        description="name of the one of `points` that savers are chosen for and that is exported as the default, such "
        "as budget-40%; null: a point with `max_accuracy_drop`",
    )
    static_search: StaticSearch | None = Field(None, description="static choices to search for the best stack")

    @property
    def goals(self) -> list[PointGoal]:
        """All goals without duplicates; the default goal comes first unless it is one of `points`."""
        if self.default_point is not None:
            return list(self.points)
        # not validated again: a static search measures drops against another backbone, where they may be larger
        default = PointGoal.model_construct(None, **self._default)
        included = any(self._is_default(point) for point in self.points)
        return list(self.points) if included else [default, *self.points]

    @property
    def _default(self) -> dict[str, Any]:
        if self.risk == "accuracy":
            return {"max_accuracy_drop": self.max_accuracy_drop}
        return {"max_risk_increase": 0.005 if self.max_risk_increase is None else self.max_risk_increase}

    def _is_default(self, point: PointGoal) -> bool:
        return all(getattr(point, key) == value for key, value in self._default.items())

    @property
    def default_goal(self) -> str:
        """Name of the operating point that is exported as the default."""
        return self.default_point or next(goal.point_name for goal in self.goals if self._is_default(goal))

    @property
    def saver_goal(self) -> Goal:
        """The goal that savers are chosen for: that of the default point, as accuracy."""
        named = next((point for point in self.points if point.point_name == self.default_point), None)
        if named is None or named.max_risk_increase is not None:
            return Goal(max_accuracy_drop=self.max_accuracy_drop)
        return named.goal()

    @property
    def judges_otherwise(self) -> bool:
        """Whether goals are about more than the accuracy of all samples together."""
        return self.risk != "accuracy" or self.max_class_drop is not None

    @model_validator(mode="after")
    def _check_risk(self) -> Self:
        keys = {key for point in self.points for key in (_DROP, _INCREASE) if getattr(point, key) is not None}
        if self.max_risk_increase is not None:
            keys.add(_INCREASE)
        wrong = _INCREASE if self.risk == "accuracy" else _DROP
        if wrong in keys:
            wanted = ({_DROP, _INCREASE} - {wrong}).pop()
            what = self.risk if isinstance(self.risk, str) else "a matrix of costs"
            raise refuse(f"holds `{wrong}`, but its risk is {what}; give `{wanted}`")
        if self.judges_otherwise and self.static_search is not None:
            raise refuse(
                "has `static_search`, which compares accuracies, and `risk` or `max_class_drop`; search first, then "
                "tune the recipe that was found"
            )
        return self

    @model_validator(mode="after")
    def _check_points(self) -> Self:
        goals = [goal.goal() for goal in self.goals]
        names = [goal.point_name for goal in self.goals]
        if any(goal in goals[:place] for place, goal in enumerate(goals)) or len(set(names)) < len(names):
            raise refuse("holds a point twice; give every point its own goal and name")
        if BACKBONE in names:
            raise refuse(f"calls a point '{BACKBONE}', which is the backbone alone; give it another name")
        if self.default_point is not None and self.default_point not in names:
            hint = nearest(self.default_point, names) if names else "give it `points`"
            raise refuse(f"has a `default_point` '{self.default_point}', which is none of its points; {hint}")
        if self.default_point is not None and self.static_search is not None:
            raise refuse("has `static_search`, which chooses by `max_accuracy_drop`, and `default_point`; keep one")
        return self
