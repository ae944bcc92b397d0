"""Describes a written folder without running its model."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

import onnx

from ..artifact.folder import MODEL_FILE, POINTS_FILE, STAGES_FOLDER, read_config
from ..artifact.manifest import CONFIG_FILE
from ..artifact.model_config import DynamicExitModelConfig
from ..chain.names import FINAL
from ..chain.operating_point import OperatingPoints
from ..errors import ExportError
from ..report.metrics import METRICS_FILE, Metrics
from .evaluate import class_names


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


def inspect_folder(folder: Path) -> FolderDescription:
    """Describe a written folder without running its model.

    Args:
        folder: Written by a run.

    Raises:
        DynamicExitError: The folder is missing or incomplete.
    """
    config = read_config(folder) if (folder / CONFIG_FILE).is_file() else None
    segments = config if config is not None and config.layout != "single" else None
    for name in (*[MODEL_FILE] * (segments is None), POINTS_FILE):
        if not (folder / name).is_file():
            raise ExportError(f"'{folder}' has no {name}; give a folder that `dynamic-exit run` wrote")
    points = OperatingPoints.read(folder / POINTS_FILE)
    model = _describe_file(folder / MODEL_FILE) if segments is None else _describe_segments(segments)
    return {
        "target": "onnxruntime" if config is None else config.target,
        **model,
        "fuse": points.points[0].fuse if points.points else "none",
        "operating_points": points.model_dump(mode="json", by_alias=True),
        "drop_errors": _drop_errors(folder / METRICS_FILE),
        "files": {
            path.relative_to(folder).as_posix(): path.stat().st_size
            for path in sorted([*folder.iterdir(), *folder.glob(f"{STAGES_FOLDER}/*")])
            if path.is_file()
        },
    }


def _drop_errors(path: Path) -> dict[str, float]:
    """Return standard errors of drops in ``metrics.json``; a folder may lack the file, and an older one the errors."""
    rows = Metrics.read(path).rows if path.is_file() else []
    errors = {row.name: row.accuracy_drop_standard_error for row in rows}
    return {name: error for name, error in errors.items() if error is not None}


def _describe_file(path: Path) -> ModelDescription:
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf raises classes of its own
        raise ExportError(f"'{path}' is no ONNX file; export it anew") from error
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if "stages" not in metadata:
        raise ExportError(f"'{path}' has no metadata 'stages'; it is no dynamic model")
    return {
        "stages": [*json.loads(metadata["stages"]), FINAL],
        "inputs": [_describe_proto(value) for value in model.graph.input if value.name != "thresholds"],
        "labels": json.loads(metadata["labels"]),
        "default": json.loads(metadata["default"]),
        "version": json.loads(metadata["version"]),
    }


def _describe_segments(config: DynamicExitModelConfig) -> ModelDescription:
    return {
        "stages": [*config.stages, FINAL],
        "inputs": [_describe_input(each["name"], each["dtype"], ["batch", *each["shape"]]) for each in config.inputs],
        "labels": class_names(config),
        "default": config.parts["default"],
        "version": config.format_version,
    }


def _describe_proto(value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    dims = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
    return _describe_input(value.name, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), dims)


def _describe_input(name: str, dtype: object, dims: Sequence[int | str]) -> str:
    return f"{name} {dtype} ({', '.join(map(str, dims))})"
