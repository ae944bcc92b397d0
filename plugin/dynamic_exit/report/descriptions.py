"""What `inspect` and `benchmark` find of a written folder."""

from typing import Any, TypedDict


class BenchmarkRow(TypedDict):
    """One operating point, or the backbone alone, in one numerics.

    Attributes:
        name: The point's, or ``backbone``; in its place the stage that answers last, where the file ends there.
        numerics: What the model is in, such as ``int8``.
        operating_point: The point's name; None for the backbone alone.
        accuracy: Share of correct answers on labelled samples; None if there are none.
        exit_rates: Share of samples that each stage answers, ``final`` included.
        seconds_per_sample: By batch size: ``median``, quartiles ``low`` and ``high``, and ``rounds``.
        speed_up: Over the first row, by batch size.
        ideal_seconds_per_sample: By batch size: what samples would take if each stage cost what it costs alone and
            nothing else did; only of points.
        accuracy_standard_error: Of the accuracy.
    """

    name: str
    numerics: str
    operating_point: str | None
    accuracy: float | None
    exit_rates: dict[str, float]
    seconds_per_sample: dict[str, dict[str, float]]
    speed_up: dict[str, float]
    ideal_seconds_per_sample: dict[str, float]
    accuracy_standard_error: float | None


class Benchmark(TypedDict):
    """Times of a written model.

    Attributes:
        rows: The backbone alone in every numerics, then every point in every numerics.
        samples: How many were used.
        runtime: Name and version of what ran the files.
        threads: Within an operator.
        notes: What must be known of the float rows, or why there are none.
    """

    rows: list[BenchmarkRow]
    samples: int
    runtime: str
    threads: int
    notes: list[str]


class ModelDescription(TypedDict):
    """What a model's file, or the configuration of a folder of segments, says of the model.

    Attributes:
        stages: Names of the chain, ``final`` included.
        inputs: Name, dtype and shape of each input.
        labels: Names of the classes, in the order of the logits.
        default: Name of the operating point to start with.
        version: Of the format.
    """

    stages: list[str]
    inputs: list[str]
    labels: list[str]
    default: str
    version: int


class FolderDescription(ModelDescription):
    """What a written folder holds.

    Attributes:
        target: Runtime of the model.
        fuse: How evidence is combined.
        operating_points: Content of ``operating_points.json``.
        drop_errors: Standard errors of the accuracy drops by point, as far as they are known.
        files: Bytes by name.
    """

    target: str
    fuse: str
    operating_points: dict[str, Any]
    drop_errors: dict[str, float]
    files: dict[str, int]
