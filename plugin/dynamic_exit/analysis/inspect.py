"""Describes a written folder without running its model."""

import json
from collections.abc import Sequence
from pathlib import Path

import onnx

from ..artifact.folder import MODEL_FILE, POINTS_FILE, STAGES_FOLDER
from ..artifact.manifest import CONFIG_FILE, Manifest, read_manifest
from ..chain.names import FINAL
from ..errors import ExportError
from ..points.operating_point import BACKBONE, OperatingPoints
from ..recipe.target_registry import DEFAULT_TARGET
from ..report.descriptions import FolderDescription, ModelDescription
from ..report.metrics import METRICS_FILE, Metrics


def inspect_folder(folder: Path) -> FolderDescription:
    """Describe a written folder without running its model.

    Args:
        folder: Written by a run.

    Raises:
        DynamicExitError: The folder is missing or incomplete.
    """
    manifest = read_manifest(folder) if (folder / CONFIG_FILE).is_file() else None
    single = manifest is None or manifest.layout == "single"
    for name in (*[MODEL_FILE] * single, POINTS_FILE):
        if not (folder / name).is_file():
            raise ExportError(f"'{folder}' has no {name}; give a folder that `dynamic-exit run` wrote")
    points = OperatingPoints.read(folder / POINTS_FILE)
    model = _describe_file(folder / MODEL_FILE) if single else None
    if manifest is not None and manifest.chain is not None:
        model = _describe_manifest(manifest, model)
    assert model is not None, "a folder of segments has a chain"
    return {
        "target": DEFAULT_TARGET if manifest is None else manifest.target,
        **model,
        "fuse": str(points.evidence or "none"),
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


def _describe_manifest(manifest: Manifest, file: ModelDescription | None) -> ModelDescription:
    """Describe the model of a manifest, and refuse one that contradicts what the model's file says of itself."""
    found: ModelDescription = {
        "stages": [*manifest.stages, FINAL],
        "inputs": [_describe_input(each["name"], each["dtype"], ["batch", *each["shape"]]) for each in manifest.inputs],
        "labels": [*manifest.labels],
        "default": manifest.default or BACKBONE,
        "version": manifest.version,
    }
    for key in ("stages", "inputs", "labels", "default"):
        if file is not None and file[key] != found[key]:
            raise ExportError(
                f"{CONFIG_FILE} says that {key} is {found[key]}, {MODEL_FILE} says {file[key]}; export it anew"
            )
    return found


def _describe_proto(value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    dims = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
    return _describe_input(value.name, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), dims)


def _describe_input(name: str, dtype: object, dims: Sequence[int | str]) -> str:
    return f"{name} {dtype} ({', '.join(map(str, dims))})"
