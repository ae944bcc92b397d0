"""Everything that a run measured, as ``metrics.json`` holds it: typed and versioned."""

import json
import os
from typing import Any, Literal

from pydantic import Field, ValidationError

from ..core.atomic_write import atomic_write
from ..errors import ExportError
from ..records.display import html_table
from ..trust.json_file import read_json
from .figures import (
    Environment,
    ExampleFigures,
    Figures,
    FrontFigures,
    PointAnswers,
    ReliabilityFigures,
    TestFingerprint,
    UpgradeFigures,
)

TYPE, VERSION = "dynamic_exit.metrics", 1
METRICS_FILE = "metrics.json"


class LatencyFigures(Figures):
    """Seconds per sample: the median round, the quartiles around it, and the number of rounds."""

    median: float
    low: float
    high: float
    rounds: int


class GoalFigures(Figures):
    """What a goal is about beside the accuracy of all samples together.

    Attributes:
        risk: Name of the risk.
        risk_increase: Over the backbone's; the accuracy drop if the risk is accuracy.
        risk_increase_standard_error: Of the increase, over pairs of answers.
        limited: The class or group nearest to its limit, or furthest beyond; None if there is no limit.
        limited_drop: What it loses.
        limited_drop_standard_error: Of that.
        max_class_drop: The limit.
    """

    risk: str
    risk_increase: float
    risk_increase_standard_error: float
    limited: str | None = None
    limited_drop: float | None = None
    limited_drop_standard_error: float | None = None
    max_class_drop: float | None = None


class PointFigures(Figures):
    """One operating point, or the backbone alone, on the test samples.

    Attributes:
        name: The point's, or ``backbone, float`` and the like.
        accuracy: Share of right answers.
        cost_ratio: Mean cost over that of the backbone alone.
        seconds_per_sample: By batch size.
        speed_up: Over the backbone alone in float, by batch size.
        exit_rates: Share of samples that each stage answers, ``final`` included.
        accuracy_standard_error: Of the accuracy.
        accuracy_drop: Below the backbone that ships; only of points, as are the next three.
        accuracy_drop_standard_error: Of the drop, over pairs of answers.
        allowed_drop: What the point was tuned for; None if its goal is a budget.
        contradicted: Whether the drop lies beyond the allowed one by more than two standard errors.
        goal: What the point's goal is about; None if that is accuracy alone.
        class_accuracy: Share of right answers among the samples of each class, in the order of ``class_names``; None
            where there are none.
    """

    name: str
    accuracy: float
    cost_ratio: float
    seconds_per_sample: dict[str, LatencyFigures]
    speed_up: dict[str, float]
    exit_rates: dict[str, float]
    accuracy_standard_error: float | None = None
    accuracy_drop: float | None = None
    accuracy_drop_standard_error: float | None = None
    allowed_drop: float | None = None
    contradicted: bool = False
    goal: GoalFigures | None = None
    class_accuracy: list[float | None] = []


class Timing(Figures):
    """How times were measured.

    Attributes:
        runtime: Name and version of what ran the files.
        threads: Within an operator.
        machine: Kind of processor, such as ``x86_64``.
        instruction_set: What it multiplies int8 with, such as ``AVX-512 VNNI``; empty if unknown.
        oldest_runtime: The first version of the runtime that takes the files, such as ``1.18``; empty if unknown.
        measure: What the numbers are, in words.
    """

    runtime: str
    threads: int
    machine: str = ""
    instruction_set: str = ""
    oldest_runtime: str = ""
    measure: str


class FileSizes(Figures):
    """Bytes of the backbone alone in float, of the model's file, and of its parts together."""

    static: int
    model: int
    parts: int


class BackboneFigures(Figures):
    """A backbone in float, before or after the static passes, on the test samples that have labels."""

    accuracy: float | None
    multiply_adds: float
    accuracy_standard_error: float | None = None


class StaticPassEffect(Figures):
    """What the static passes did to the backbone: names of the passes, the backbone before them and after them."""

    passes: list[str]
    given: BackboneFigures
    made: BackboneFigures


class QuantizationFigures(Figures):
    """The whole backbone with one quantization, or in float, on calibration samples."""

    algorithm: str
    accuracy: float | None
    seconds_per_sample: float | None
    size: int | None = Field(alias="bytes")
    why: str
    chosen: bool
    accuracy_standard_error: float | None = None


class CandidateFigures(Figures):
    """A candidate for a saver, on calibration samples; see `passes.tiny_saver.Candidate`."""

    stage: str
    accuracy: float | None
    cost: float | None
    answered: float | None
    saving_alone: float | None
    saving_in_chain: float | None
    chosen: bool
    why: str
    accuracy_standard_error: float | None = None


class BaselineFigures(Figures):
    """The backbone as it came, which a static search compares with."""

    accuracy: float
    calibration_accuracy: float
    cost: float
    accuracy_standard_error: float | None = None


class StaticVariantFigures(Figures):
    """One static choice of a search, on calibration samples; costs are over that of the backbone as it came."""

    pruning: str
    quantization: str
    backbone_accuracy: float | None
    backbone_cost_ratio: float | None
    accuracy: float | None
    cost: float | None
    cost_ratio: float | None
    seconds: float
    chosen: bool
    why: str
    accuracy_standard_error: float | None = None
    backbone_accuracy_standard_error: float | None = None


class StaticPointFigures(Figures):
    """One operating point of the best choice against the backbone as it came, on the test samples."""

    name: str
    accuracy: float
    accuracy_drop: float
    accuracy_drop_standard_error: float
    cost_ratio: float
    accuracy_standard_error: float | None = None


class StaticSearchFigures(Figures):
    """What a search over static choices found."""

    cost_unit: Literal["macs", "seconds"]
    given: BaselineFigures
    variants: list[StaticVariantFigures]
    points: list[StaticPointFigures]
    seconds: float


class StageFigures(Figures):
    """One stage alone on calibration samples: what it needs runs before it, and it answers everything.

    Attributes:
        stage: Its name.
        accuracy: Share of right answers.
        cost_ratio: Over the cost of the backbone alone.
        backbone_before: Share of the backbone that runs before it.
        accuracy_standard_error: Of the accuracy.
    """

    stage: str
    accuracy: float
    cost_ratio: float
    backbone_before: float
    accuracy_standard_error: float | None = None


class StageMacs(Figures):
    """Multiply-adds per sample by stage: its own, and those of the backbone before it."""

    own: dict[str, float]
    prefix: dict[str, float]


class VerificationFigures(Figures):
    """How well a file agrees with its model; see `onnx.verification.Agreement`."""

    samples: int
    points: int
    exits_apart: int
    rounding: int
    predictions_apart: int
    largest_difference: float


class Metrics(Figures):
    """The content of ``metrics.json``. Files of older versions may lack whatever has a default.

    Attributes:
        seed: The recipe's.
        samples: Number of samples by split.
        rows: The backbone alone (in float, and as it ships if that differs), then every operating point.
        timing: How times were measured.
        sizes: Bytes of the files; ``bytes`` in the file.
        target: Runtime that the model is for.
        backbone_numerics: What the backbone ships in, such as ``int8``.
        notes: What the user should know, one sentence each.
        static_passes: What they did; None if none has run.
        numerics: What was measured to choose a quantization.
        candidates: The table of savers that were tried.
        candidates_seconds: What trying them took.
        static_search: What it found; None if there was none.
        upgrade: What it gains; None if there was none.
        baseline_cost: Of the backbone alone, per sample, in the unit of the operating points.
        stages: Every stage alone.
        saver_seconds: Seconds per sample where one saver answers all test samples, by its name and batch size.
        multiply_adds: Of every stage in use.
        verification: Agreement by file.
        seconds: What the whole run took.
        samples_differ: Whether calibration and test samples differ, so that no guarantee is stated.
        class_names: In the order of the logits.
        class_samples: Number of test samples of each class.
        data_notes: Those of the notes that are about model and data.
        front: Configurations that none of the others dominates, from cheap to expensive.
        answers: What the stages answer at each operating point.
        reliability: How far each stage's confidence can be trusted.
        examples: A few test samples at the first operating point.
        environment: What the run was made with.
        test: Fingerprint of the test samples, by which runs are known to be comparable.
        inputs: Fingerprint of what the run was made of, by which `--if-changed` knows it; None of a model in memory.
    """

    seed: int = 0
    samples: dict[str, int]
    rows: list[PointFigures]
    timing: Timing
    sizes: FileSizes | None = Field(default=None, alias="bytes")
    target: str = "onnxruntime"
    backbone_numerics: str = "float"
    notes: list[str] = []
    static_passes: StaticPassEffect | None = None
    numerics: list[QuantizationFigures] = []
    candidates: list[CandidateFigures] = []
    candidates_seconds: float = 0.0
    static_search: StaticSearchFigures | None = None
    upgrade: UpgradeFigures | None = None
    baseline_cost: float = 1.0
    stages: list[StageFigures] = []
    saver_seconds: dict[str, dict[str, LatencyFigures]] = {}
    multiply_adds: StageMacs | None = None
    verification: dict[str, VerificationFigures] = {}
    seconds: float = 0.0
    samples_differ: bool = False
    class_names: list[str] = []
    class_samples: list[int] = []
    data_notes: list[str] = []
    front: list[FrontFigures] = []
    answers: list[PointAnswers] = []
    reliability: list[ReliabilityFigures] = []
    examples: list[ExampleFigures] = []
    environment: Environment | None = None
    test: TestFingerprint | None = None
    inputs: str | None = None

    def __repr__(self) -> str:
        """Return rows with accuracy and cost."""
        told = ", ".join(f"{row.name}: {row.accuracy:.1%} at {row.cost_ratio:.3f} of the cost" for row in self.rows)
        return f"Metrics({told})"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        from .tables import metrics_table

        table = metrics_table(self)
        return html_table(f"{self.samples.get('test', 0)} test samples", table.header, table.rows)

    def row(self, name: str) -> PointFigures:
        """Return the row of an operating point, or of the backbone.

        Raises:
            KeyError: There is none of this name.
        """
        return {row.name: row for row in self.rows}[name]

    def to_dict(self) -> dict[str, Any]:
        """Return what the file holds."""
        return {"_type": TYPE, "_version": VERSION, **self.model_dump(by_alias=True, exclude_unset=True)}

    def write(self, path: str | os.PathLike) -> None:
        """Write the file, whole or not at all."""
        with atomic_write(path) as file:
            file.write((json.dumps(self.to_dict(), indent=2) + "\n").encode())

    @classmethod
    def read(cls, path: str | os.PathLike) -> "Metrics":
        """Read the file.

        Raises:
            ExportError: It is missing, of a newer version, or breaks the format.
        """
        try:
            content = read_json(path)
            version = content["_version"] if "_version" in content else VERSION
        except (OSError, ValueError, TypeError) as error:
            raise ExportError(f"'{path}' holds no metrics; export the folder anew") from error
        if version != VERSION:
            raise ExportError(
                f"'{path}' is of version {version}, this program reads version {VERSION}; use a newer dynamic_exit"
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise ExportError(f"'{path}' holds no metrics; export the folder anew") from error


def metrics_schema() -> dict[str, Any]:
    """Return the JSON schema of ``metrics.json``."""
    schema = Metrics.model_json_schema(by_alias=True)
    version = {"_type": {"const": TYPE}, "_version": {"const": VERSION}}
    schema["properties"] = {**version, **schema["properties"]}
    schema["required"] = [*version, *schema["required"]]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
