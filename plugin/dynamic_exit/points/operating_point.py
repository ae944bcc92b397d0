"""Operating points: configurations with their measured figures, and the file format for them."""

import json
import math
import os
from collections.abc import Sequence
from numbers import Real
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from ..chain.confidence import ConfidenceName, Gate
from ..chain.evaluation import evaluate
from ..chain.evidence import Evidence, EvidenceName
from ..chain.group_losses import group_drops
from ..chain.names import FINAL
from ..chain.thresholds import Configuration
from ..core.atomic_write import atomic_write, check_writable
from ..errors import OperatingPointError
from ..records import Records
from ..trust.json_file import parse_json, read_text
from .display import PointsDisplay
from .goal import Goal
from .goal_limits import explain_excessive_budget, explain_excessive_drop
from .parts import (
    VERSION,
    Baseline,
    Cost,
    FileModel,
    Finite,
    Guarantee,
    RiskFigures,
    Share,
    SparseFileModel,
    StageThreshold,
    no_constant,
    upgraded_version,
)

TYPE: Literal["dynamic_exit.operating_points"] = "dynamic_exit.operating_points"
BACKBONE = "backbone"

# a measured cost may exceed a budget by this much through rounding alone
_ROUNDING = 1e-12
# a requested drop may arrive as float32
_SAME_GOAL = 1e-8


class OperatingPoint(SparseFileModel):
    """A configuration with its figures, all measured on samples that the search has not seen.

    Attributes:
        name: Unique in its file.
        goal: What it is tuned for; null for the backbone alone.
        stages: The stages in use before the final, in chain order; empty for the backbone alone.
        fuse: Name of the evidence rule.
        confidence: Name of the confidence rule.
        powers: Stage -> its power in the evidence, of those that do not count as much as the others.
        gates: Stage -> its gate, where confidence is learned.
        accuracy: 0..1.
        accuracy_drop: The backbone's accuracy on the same samples less this one.
        cost: Mean per sample, in the unit of the file.
        cost_ratio: Cost over the backbone's.
        exit_rates: Share of samples that exit at each stage in use and at the final.
        samples: Number of samples that the figures come from.
        guarantee: Null if none was asked for or none passed its test.
        risk: What the goal is about, with its figures; null if it is accuracy.
        largest_class_drop: The largest drop, or increase of risk, of a class or group; null if the goal has no limit.
    """

    rare: ClassVar[tuple[str, ...]] = ("risk", "largest_class_drop")

    name: Annotated[str, Field(min_length=1)]
    goal: Goal | None = None
    stages: tuple[StageThreshold, ...] = ()
    fuse: EvidenceName = "none"
    confidence: ConfidenceName = "top1"
    powers: dict[str, Cost] = {}
    gates: dict[str, Gate] = {}
    accuracy: Share
    accuracy_drop: Finite
    cost: Cost
    cost_ratio: Cost
    exit_rates: dict[str, Share]
    samples: Annotated[int, Field(ge=1)]
    guarantee: Guarantee | None = None
    risk: RiskFigures | None = None
    largest_class_drop: Finite | None = None

    @property
    def evidence(self) -> Evidence:
        """How the answers of stages are combined."""
        return Evidence.from_parameters(self.fuse, self.confidence, self.powers, self.gates)

    @property
    def configuration(self) -> Configuration:
        """The configuration, as ``evaluate`` takes it."""
        return Configuration(tuple((stage.stage, stage.threshold) for stage in self.stages), self.evidence)

    @classmethod
    def measure(
        cls,
        records: Records,
        configuration: Configuration,
        *,
        name: str,
        goal: Goal | None = None,
        guarantee: Guarantee | None = None,
    ) -> "OperatingPoint":
        """Measure a configuration.

        Args:
            records: Samples that neither training nor search has seen, judged by the risk of the goal.
            configuration: What to measure.
            name: The point's name.
            goal: What it is tuned for.
            guarantee: A guarantee that passed its test.

        Returns:
            The point.

        Raises:
            OperatingPointError: The configuration does not fit the records.
        """
        figures, limited = evaluate(records, configuration), goal and goal.max_class_drop
        return cls(
            name=name,
            goal=goal,
            stages=tuple(StageThreshold(stage=s, threshold=float(t)) for s, t in configuration.stages),
            fuse=configuration.fuse.rule,
            **configuration.fuse.parameters,
            accuracy=figures.accuracy,
            accuracy_drop=figures.accuracy_drop,
            cost=figures.cost,
            cost_ratio=figures.cost_ratio,
            exit_rates=figures.exit_rates,
            samples=len(records),
            guarantee=guarantee,
            risk=RiskFigures.of(figures, records),
            largest_class_drop=None if limited is None else max(group_drops(records, configuration).values()),
        )


class OperatingPoints(PointsDisplay, FileModel):
    """The content of ``operating_points.json``.

    Attributes:
        cost_unit: ``macs`` or ``seconds``.
        baseline: The backbone alone.
        points: Operating points, each with a name of its own.
        last_stage: The stage that answers last in a file that lacks the backbone's own head, as ``final``; None if the
            file holds the whole backbone.
        warnings: Why a guarantee is missing and where samples were too few, a sentence each; not written to the file.
    """

    type: Literal["dynamic_exit.operating_points"] = Field(default=TYPE, alias="_type")
    version: Annotated[Literal[2], BeforeValidator(upgraded_version)] = Field(default=VERSION, alias="_version")
    cost_unit: Literal["macs", "seconds"]
    baseline: Baseline
    points: tuple[OperatingPoint, ...]
    last_stage: str | None = None
    warnings: tuple[str, ...] = Field(default=(), exclude=True)

    @model_validator(mode="after")
    def _names(self) -> "OperatingPoints":
        names = [point.name for point in self.points]
        twice = [name for i, name in enumerate(names) if name in names[:i] or name == BACKBONE]
        if twice:
            raise ValueError(f"the point name '{twice[0]}' comes twice or is the backbone's own")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the points, in order."""
        return tuple(point.name for point in self.points)

    @property
    def evidence(self) -> Evidence | None:
        """How the points combine answers, with the powers and gates of all stages; None if no point has a stage."""
        used = [point for point in self.points if point.stages]
        powers = {stage: power for point in used for stage, power in point.powers.items()}
        gates = {stage: gate for point in used for stage, gate in point.gates.items()}
        return Evidence.from_parameters(used[0].fuse, used[0].confidence, powers, gates) if used else None

    @property
    def backbone(self) -> OperatingPoint:
        """The backbone alone as a point named ``backbone``: every stage is off. Files with a `last_stage` lack it."""
        samples = self.points[0].samples if self.points else 1
        return OperatingPoint(
            name=BACKBONE,
            accuracy=self.baseline.accuracy,
            accuracy_drop=0.0,
            cost=self.baseline.cost,
            cost_ratio=1.0,
            exit_rates={FINAL: 1.0},
            samples=samples,
        )

    @property
    def available(self) -> tuple[OperatingPoint, ...]:
        """All points that the file can answer at: the backbone alone is the last, where the file holds it."""
        return self.points if self.last_stage else (*self.points, self.backbone)

    @classmethod
    def read(cls, path: str | os.PathLike) -> "OperatingPoints":
        """Read the file.

        Args:
            path: ``operating_points.json``.

        Returns:
            The points.

        Raises:
            OperatingPointError: The file is missing, is not JSON, is of a newer version or breaks the format.
        """
        try:
            text = read_text(path)
        except (OSError, ValueError) as error:
            raise OperatingPointError(f"cannot read the operating points '{path}': {error}") from error
        return cls.from_json(text, source=str(path))

    @classmethod
    def from_json(cls, text: str, *, source: str = "the operating points") -> "OperatingPoints":
        """Read the text of a file.

        Args:
            text: JSON.
            source: What to call it in errors.

        Returns:
            The points.

        Raises:
            OperatingPointError: As ``read``.
        """
        try:
            content = parse_json(text, no_constant)
        except ValueError as error:
            raise OperatingPointError(
                f"'{source}' is not JSON ({error}); write it with OperatingPoints.write"
            ) from error
        if not isinstance(content, dict) or content.get("_type") != TYPE:
            raise OperatingPointError(f"'{source}' holds no operating points: its _type must be '{TYPE}'")
        version = content.get("_version")
        if isinstance(version, int) and version > VERSION:
            raise OperatingPointError(
                f"'{source}' is of version {version}, this program reads up to {VERSION}; use a newer dynamic_exit"
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise OperatingPointError(f"'{source}' breaks the format at {where}: {first['msg']}") from error

    def to_json(self) -> str:
        """Return the text of the file; the same points give the same bytes, and no number is NaN or infinite."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), indent=2, allow_nan=False) + "\n"

    def write(self, path: str | os.PathLike) -> None:
        """Write the file atomically.

        Args:
            path: The file to write or replace; its folder must exist.

        Raises:
            OperatingPointError: The file cannot be written.
        """
        try:
            with atomic_write(path) as file:
                file.write(self.to_json().encode())
        except OSError as error:
            raise _cannot_write(path, error) from error

    @staticmethod
    def check_writable(path: str | os.PathLike) -> None:
        """Check before any work that `write` can write to `path`.

        Raises:
            OperatingPointError: It cannot.
        """
        try:
            check_writable(path)
        except OSError as error:
            raise _cannot_write(path, error) from error

    def by_name(self, name: str) -> OperatingPoint:
        """Return the point of a name.

        Args:
            name: Its name, or ``backbone``.

        Raises:
            OperatingPointError: There is no such point; the message lists all names.
        """
        for point in self.available:
            if point.name == name:
                return point
        known = ", ".join(sorted(point.name for point in self.available))
        if name == BACKBONE:
            raise OperatingPointError(
                f"the file does not hold the whole backbone, '{self.last_stage}' answers last; known are: {known}"
            )
        raise OperatingPointError(f"there is no operating point '{name}'; known are: {known}")

    def nearest(self, *, max_accuracy_drop: float | None = None, budget: float | None = None) -> OperatingPoint:
        """Return the best point for an allowed drop or a budget.

        An accuracy drop is compared with what points are tuned for: a drop measured on the report's samples may be
        small by luck. A budget is compared with measured cost, which has hardly any noise.

        Args:
            max_accuracy_drop: Return the cheapest of the points tuned for at most this drop; if there is none, of
                those with a guarantee for at most this drop.
            budget: Return the most accurate point whose cost is at most this share of the backbone's, possibly the
                backbone alone.

        Returns:
            The point.

        Raises:
            OperatingPointError: Not exactly one of both is given, it is no number or excessive, or no point meets it;
                the message lists the points, and names ``backbone``, which has no drop at all.
        """
        if (max_accuracy_drop is None) == (budget is None):
            raise OperatingPointError("ask for either a max_accuracy_drop or a budget")
        limit = budget if max_accuracy_drop is None else max_accuracy_drop
        if isinstance(limit, bool) or not isinstance(limit, Real) or not math.isfinite(limit):
            raise OperatingPointError(f"a max_accuracy_drop or budget must be a number; got {limit!r}")
        return self._for_drop(limit) if budget is None else self._for_budget(limit)

    def _for_drop(self, limit: float) -> OperatingPoint:
        explanation = explain_excessive_drop(limit)
        if explanation:
            raise OperatingPointError(f"max_accuracy_drop {explanation}")
        for drop_of in (_goal_drop, _guaranteed_drop):
            fitting = [point for point in self.points if drop_of(point) <= limit + _SAME_GOAL]
            if fitting:
                return min(fitting, key=lambda point: (point.cost, point.accuracy_drop))
        drops = {point.name: min(_goal_drop(point), _guaranteed_drop(point)) for point in self.points}
        other = "another risk" if any(point.risk for point in self.points) else "a budget"
        known = (f"{name} ({drop:g})" if drop < math.inf else f"{name} ({other})" for name, drop in drops.items())
        raise OperatingPointError(
            f"no operating point was tuned for an accuracy drop of at most {limit:g}; known are: "
            f"{', '.join(sorted(known)) or 'none'}"
            + f"; '{BACKBONE}' by name loses nothing"
            * (limit >= 0 and not self.last_stage)
        )

    def _for_budget(self, limit: float) -> OperatingPoint:
        explanation = explain_excessive_budget(limit)
        if explanation:
            raise OperatingPointError(f"budget {explanation}")
        fitting = [point for point in self.available if point.cost_ratio <= limit + _ROUNDING]
        if not fitting:
            least = min(point.cost_ratio for point in self.available)
            raise OperatingPointError(
                f"no operating point costs at most {limit:g} of the backbone; the cheapest costs {least:.4g}"
            )
        return max(fitting, key=lambda point: (-point.accuracy_drop, -point.cost))


def _goal_drop(point: OperatingPoint) -> float:
    drop = point.goal.max_accuracy_drop if point.goal else None
    return math.inf if drop is None else drop


def _guaranteed_drop(point: OperatingPoint) -> float:
    drop = point.guarantee.max_accuracy_drop if point.guarantee else None
    return math.inf if drop is None else drop


def _cannot_write(path: str | os.PathLike, error: OSError) -> OperatingPointError:
    return OperatingPointError(f"cannot write the operating points to '{path}': {error.strerror or error}")


def point_thresholds(point: OperatingPoint, stages: Sequence[str]) -> np.ndarray:
    """Return the thresholds of an operating point in the order of a chain.

    Args:
        point: The point.
        stages: Names of the stages before the final.

    Returns:
        float32 (S,); `STAGE_OFF` for stages that the point does not use.

    Raises:
        OperatingPointError: The point uses a stage that the chain lacks.
    """
    missing = sorted({stage.stage for stage in point.stages} - set(stages))
    if missing:
        raise OperatingPointError(
            f"operating point '{point.name}' uses the stage '{missing[0]}', which the file lacks; export anew"
        )
    return point.configuration.as_array(stages)
