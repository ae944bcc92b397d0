"""Describes a written folder without running its model."""

import json
from pathlib import Path

import onnx

from ..artifact.file_metadata import file_chain, read_metadata
from ..artifact.folder import MODEL_FILE, POINTS_FILE, STAGES_FOLDER
from ..artifact.input_specs import describe_proto
from ..artifact.manifest import CONFIG_FILE, Manifest, infer_task, read_manifest
from ..chain.names import FINAL
from ..errors import ExportError
from ..points.operating_point import BACKBONE, OperatingPoints
from ..recipe.target_registry import DEFAULT_TARGET
from ..report.descriptions import FolderDescription, ModelDescription
from ..report.metrics import METRICS_FILE, Metrics

# what a file says of itself besides its chain and its inputs
_HELD = ("stages", "labels", "default")


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
    if single:
        file = _read_file(folder / MODEL_FILE)
        if manifest is None or manifest.chain is None:  # of version 1, where the file alone says it
            manifest = file
        else:
            _check(manifest, file)
    assert manifest is not None, "a folder of segments has a manifest"
    return {
        "target": manifest.target,
        **_describe(manifest),
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


def _describe(manifest: Manifest) -> ModelDescription:
    return {
        "stages": [*manifest.stages, FINAL],
        "inputs": [
            f"{each['name']} {each['dtype']} ({', '.join(map(str, ['batch', *each['shape']]))})"
            for each in manifest.inputs
        ],
        "labels": [*manifest.labels],
        "default": manifest.default or BACKBONE,
        "version": manifest.version,
    }


def _read_file(path: Path) -> Manifest:
    """Return what a file of all stages says of itself.

    Raises:
        ExportError: It is no dynamic model.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf raises classes of its own
        raise ExportError(f"'{path}' is no ONNX file; export it anew") from error
    metadata = read_metadata(model)
    if "stages" not in metadata:
        raise ExportError(f"'{path}' has no metadata 'stages'; it is no dynamic model")
    inputs = tuple(describe_proto(value) for value in model.graph.input if value.name != "thresholds")
    said = {key: json.loads(metadata[key]) for key in ("version", *_HELD) if key in metadata}
    chain, task = file_chain(metadata, inputs), infer_task(inputs)
    return Manifest(inputs=inputs, chain=chain, task=task, layout="single", target=DEFAULT_TARGET, **said)


def _check(manifest: Manifest, file: Manifest) -> None:
    """Hold what a file says of itself against the manifest that this was written from.

    Raises:
        ExportError: It says something else.
    """
    for key in ("inputs", *_HELD):
        ours, theirs = getattr(manifest, key), getattr(file, key)
        if theirs and ours != theirs:
            raise ExportError(f"{CONFIG_FILE} says that {key} is {ours}, {MODEL_FILE} says {theirs}; export it anew")
    if manifest.chain is not None and file.chain is not None:
        if manifest.chain.model_copy(update={"taps": ()}) != file.chain:  # of which the file says nothing
            raise ExportError(f"{CONFIG_FILE} describes other parts or evidence than {MODEL_FILE}; export it anew")
