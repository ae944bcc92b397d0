"""What live traffic is compared with: where test samples leave, how sure answers are, and how often they are right."""

import json
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..chain.evaluation import evaluate
from ..chain.evidence import Evidence
from ..chain.thresholds import Configuration
from ..core.atomic_write import atomic_write
from ..core.hashing import digest
from ..drift.input_reference import InputReference
from ..drift.parts import check_parts, count_parts, find_parts
from ..errors import MonitorError, first_line
from ..points.operating_point import BACKBONE, OperatingPoints
from ..records import Records
from ..trust.json_file import read_json

#: The file in the folder of a model.
REFERENCE_FILE = "reference.json"
TYPE, VERSION = "dynamic_exit.reference", 1


class PointReference(BaseModel):
    """The test samples at one operating point.

    Attributes:
        name: The point's.
        exits: Number of samples by stage that answers: those of the file in their order, the final last.
        edges: Ascending; they part the scores of samples, which are the number of the stage that answers, from 0, plus
            1 less the confidence of the answer.
        counts: Number of samples in each part, from the easiest samples to the hardest; one more than edges.
        confidence: Mean confidence of the answers, in 0..1.
        classes: Number of samples by class that is answered.
        agreeing: How many answers are the backbone's.
        labelled: How many samples have a label.
        worse: How many labelled samples only the backbone answers right.
        better: How many labelled samples only the dynamic model answers right.
        correct: How many labelled samples the dynamic model answers right.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    exits: tuple[int, ...]
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    confidence: float
    classes: tuple[int, ...]
    agreeing: int
    labelled: int
    worse: int
    better: int
    correct: int

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        check_parts(self.edges, self.counts)
        if len({sum(self.counts), sum(self.exits), sum(self.classes)}) > 1:
            raise ValueError("edges and counts of samples do not fit each other")
        if not sum(self.counts) >= self.labelled >= self.worse + self.better:
            raise ValueError("counts of samples are no counts")
        return self

    @property
    def samples(self) -> int:
        """The number of test samples."""
        return sum(self.counts)

    def part(self, exit_index: np.ndarray, confidence: np.ndarray) -> np.ndarray:
        """Return the part of each answer, int64 (n,); answers that are not finite are the hardest.

        Args:
            exit_index: int64 (n,).
            confidence: float32 (n,).
        """
        return find_parts(self.edges, scores(exit_index, confidence))

    @classmethod
    def of(cls, name: str, records: Records, configuration: Configuration, classes: int) -> Self:
        """Count the samples of records.

        Args:
            name: Name of the point.
            records: Of test samples, with the stages of the file.
            configuration: Of the point.
            classes: Number of classes.
        """
        found = evaluate(records, configuration)
        edges, counts = count_parts(scores(found.exit_index, found.confidence))
        backbone, known = records.topk_classes[-1, :, 0], np.asarray(records.labels) >= 0
        labels = np.asarray(records.labels)[known]
        right, of_backbone = found.prediction[known] == labels, backbone[known] == labels
        return cls(
            name=name,
            exits=tuple(np.bincount(found.exit_index, minlength=len(records.stages)).tolist()),
            edges=edges,
            counts=counts,
            confidence=float(found.confidence.mean(dtype=np.float64)),
            classes=tuple(np.bincount(found.prediction, minlength=classes).tolist()),
            agreeing=int((found.prediction == backbone).sum()),
            labelled=int(known.sum()),
            worse=int((of_backbone & ~right).sum()),
            better=int((right & ~of_backbone).sum()),
            correct=int(right.sum()),
        )


class Reference(BaseModel):
    """The test samples at each operating point of a model.

    Attributes:
        stages: Names of the stages of the file, the final last.
        points: The operating points, and the backbone alone.
        own_costs: Of the stages themselves, over the backbone's; empty in files of earlier versions.
        prefix_costs: Of the backbone up to each stage, over that of the whole backbone; empty likewise.
        inputs: Statistics of inputs; empty in files of earlier versions, and where only records are known.
    """

    model_config = ConfigDict(frozen=True)

    stages: tuple[str, ...]
    points: tuple[PointReference, ...]
    own_costs: tuple[Annotated[float, Field(ge=0)], ...] = ()
    prefix_costs: tuple[Annotated[float, Field(ge=0)], ...] = ()
    inputs: tuple[InputReference, ...] = ()

    @model_validator(mode="after")
    def _check_points(self) -> Self:
        names = [point.name for point in self.points]
        if not names or len({*names}) < len(names):
            raise ValueError("points must have different names")
        if any(len(point.exits) != len(self.stages) for point in self.points):
            raise ValueError("points must count samples by stage")
        if len({len(point.classes) for point in self.points}) > 1:
            raise ValueError("points must count samples by the same classes")
        if not len(self.own_costs) == len(self.prefix_costs) in (0, len(self.stages)):
            raise ValueError("there must be costs of all stages, or of none")
        if len({each.name for each in self.inputs}) < len(self.inputs):
            raise ValueError("inputs must have different names")
        return self

    @property
    def fingerprint(self) -> str:
        """A hash of its content."""
        return digest(self.model_dump_json(exclude_defaults=True))

    @property
    def costs(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Own costs of all stages, and of the backbone before each, float64 (S,); None: unknown."""
        return (np.array(self.own_costs), np.array(self.prefix_costs)) if self.own_costs else None

    def point(self, name: str) -> PointReference | None:
        """Return the samples at a point; None if it is unknown."""
        return next((point for point in self.points if point.name == name), None)

    @classmethod
    def of(
        cls, records: Records, points: OperatingPoints, classes: int, inputs: tuple[InputReference, ...] = ()
    ) -> Self:
        """Count the test samples at each operating point.

        Args:
            records: Of the test samples.
            points: The operating points; stages that none of them uses are left out.
            classes: Number of classes.
            inputs: Statistics of their inputs; without them inputs are not watched.
        """
        used = {stage.stage for point in points.points for stage in point.stages}
        kept = records.select([stage for stage in records.stages[:-1] if stage in used])
        found = [PointReference.of(point.name, kept, point.configuration, classes) for point in points.points]
        if BACKBONE not in points.names and points.last_stage is None:
            found.append(PointReference.of(BACKBONE, kept, Configuration((), Evidence("none")), classes))
        table = kept.stage_table
        return cls(
            stages=kept.stages,
            points=tuple(found),
            own_costs=tuple((table.own_cost / table.baseline_cost).tolist()),
            prefix_costs=tuple((table.prefix_cost / table.baseline_cost).tolist()),
            inputs=inputs,
        )

    def write(self, path: str | Path) -> None:
        """Write it as JSON."""
        values = {"_type": TYPE, "_version": VERSION, **self.model_dump(mode="json")}
        with atomic_write(path) as file:
            file.write((json.dumps(values) + "\n").encode())

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read what `write` wrote.

        Raises:
            MonitorError: It is missing, or no such file.
        """
        try:
            values = read_json(path)
        except FileNotFoundError:
            raise MonitorError(
                f"'{path}' is missing, which live traffic is compared with; run the recipe anew"
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise MonitorError(f"'{path}' cannot be read: {first_line(error)}; run the recipe anew") from error
        if not isinstance(values, dict) or (values.get("_type"), values.get("_version")) != (TYPE, VERSION):
            raise MonitorError(f"'{path}' is no reference of version {VERSION}; run the recipe anew with this version")
        try:
            return cls.model_validate({key: value for key, value in values.items() if not key.startswith("_")})
        except ValidationError as error:
            raise MonitorError(
                f"'{path}' is no whole reference: {error.errors()[0]['msg']}; run the recipe anew"
            ) from error


def scores(exit_index: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Return how hard samples are, float64 (n,): a later exit is harder, and less confidence at the same exit.

    Args:
        exit_index: int64 (n,).
        confidence: float32 (n,) in 0..1; what is not finite counts as harder than all others.
    """
    sure = confidence.astype(np.float64)
    return np.where(np.isfinite(sure), exit_index + 1 - np.clip(sure, 0, 1), np.inf)
