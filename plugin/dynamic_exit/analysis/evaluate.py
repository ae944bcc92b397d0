"""What a written folder holds, and how it does on other samples."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ..artifact.folder import CONFIG_FILE, MODEL_FILE, POINTS_FILE, STAGES_FOLDER, read_config
from ..artifact.model_config import DynamicExitModelConfig
from ..chain.drop_checks import with_standard_error
from ..chain.operating_point import OperatingPoint, OperatingPoints
from ..core.batching import named_batches
from ..errors import DataError, ExportError, nearest
from ..modeling.auto import AutoDynamicExitModel
from ..recipe.yaml_io import read_recipe
from ..records import Records
from ..sources.data.checks import check_labels, check_same_format, check_samples
from ..sources.data.loading import encode_label_names, load_splits
from ..sources.data.npz import read_npz
from ..sources.data.split import Split

_DROP_ERROR = "accuracy_drop_standard_error"


def evaluate_folder(folder: Path, data: Path, operating_point: str | None, batch_size: int) -> list[dict[str, Any]]:
    """Measure a written model on samples.

    Args:
        folder: What a run wrote.
        data: ``.npz`` with inputs and labels, or a recipe, whose test split is used.
        operating_point: Name of one point, or None for the backbone and all of them.
        batch_size: Samples in one call.

    Returns:
        For each point: ``name``, ``accuracy`` and its ``accuracy_standard_error``, ``cost_ratio``, ``exit_rates`` by
        stage and ``samples``. The cost is that of the stages in the folder's records, at the exit rates found here.

    Raises:
        DynamicExitError: The folder, the data or the point cannot be used.
    """
    model = AutoDynamicExitModel.from_pretrained(folder)
    split = load_samples(data, folder)
    check_same_format({"data": split})
    check_labels({"data": split}, len(model.config.id2label), None)
    feeds = split.feeds(model.input_names)
    points = model.operating_points
    chosen = [points.by_name(operating_point)] if operating_point else [points.backbone, *points.points]
    records = Records.read(folder / "records.npz")
    rows = []
    for point in chosen:
        model.set_operating_point(point.name)
        answers = [model(**batch) for batch in named_batches(feeds, batch_size)]
        predictions = np.concatenate([answer.logits.argmax(1) for answer in answers])
        exits = np.concatenate([answer.exit_index for answer in answers])
        rates = {stage: float((exits == i).mean()) for i, stage in enumerate((*model.stages, "final"))}
        rows.append(
            {
                "name": point.name,
                "accuracy": float((predictions == split.labels).mean()),
                "cost_ratio": _cost_ratio(records, point, rates),
                "exit_rates": rates,
                "samples": len(split),
            }
        )
    return [with_standard_error(row, len(split)) for row in rows]


def _cost_ratio(records: Records, point: OperatingPoint, rates: dict[str, float]) -> float:
    """Cost by the stages' own costs, at the rates at which samples leave here."""
    used = [stage.stage for stage in point.stages]
    kept = records.select([*used, records.stages[-1]])
    paid = np.cumsum(kept.own_cost) + kept.prefix_cost
    return float(np.dot([rates[stage] for stage in kept.stages], paid) / kept.prefix_cost[-1])


def load_samples(data: Path, folder: Path) -> Split:
    """Load samples to judge a written model on.

    Args:
        data: ``.npz`` with inputs and labels, or a recipe, whose test split is used.
        folder: What a run wrote: labels that are names are matched to those that it serves.

    Returns:
        The samples.

    Raises:
        DataError: They cannot be read, or have classes that the model does not serve.
    """
    if data.suffix == ".npz":
        samples = {"data": read_npz(data)}
        names = encode_label_names(samples, lambda: None)
        split = Split("data", *check_samples(*samples["data"], split="data"), names)
    elif data.suffix in (".yaml", ".yml"):
        recipe = read_recipe(data)
        split = load_splits(recipe.data, recipe.seed, recipe.model)["test"]
    else:
        raise DataError(f"data '{data}' must be an .npz file with inputs and labels, or a recipe")
    return split if split.class_names is None else _as_served(split, _served_names(folder))


def _served_names(folder: Path) -> list[str]:
    config = read_config(folder)
    return [config.id2label[index] for index in sorted(config.id2label)]


def _as_served(split: Split, served: Sequence[str]) -> Split:
    """Number labels that are names as the served model does, or refuse classes that it does not know."""
    names = split.class_names
    strangers = [name for name in names if name not in served]
    if strangers and (len(strangers) < len(names) or len(names) != len(served)):
        hint = nearest(strangers[0], served)[:200]
        raise DataError(f"the samples have a class '{strangers[0]}', which the model does not serve; {hint}")
    if strangers:  # called otherwise throughout, as for the run itself: matched by order
        return split
    place = np.asarray([list(served).index(name) for name in names])
    return replace(split, labels=place[split.labels], class_names=tuple(served))


def describe_folder(folder: Path) -> dict[str, Any]:
    """Return what a written folder says of itself, without running it.

    Args:
        folder: What a run wrote.

    Returns:
        ``target``, ``stages``, ``labels``, ``inputs``, ``fuse``, ``default``, ``version``, ``operating_points``,
        ``drop_errors`` (standard errors of the accuracy drops by point, where they are known) and ``files``.

    Raises:
        DynamicExitError: The folder is missing or incomplete.
    """
    config = read_config(folder) if (folder / CONFIG_FILE).is_file() else None
    single = config is None or config.layout == "single"
    for name in (*[MODEL_FILE] * single, POINTS_FILE):
        if not (folder / name).is_file():
            raise ExportError(f"'{folder}' has no {name}; give a folder that `dynamic-exit run` wrote")
    points = OperatingPoints.read(folder / POINTS_FILE)
    return {
        "target": "onnxruntime" if config is None else config.target,
        **(_describe_file(folder / MODEL_FILE) if single else _describe_segments(config)),
        "fuse": points.points[0].fuse if points.points else "none",
        "operating_points": points.model_dump(mode="json", by_alias=True),
        "drop_errors": _drop_errors(folder / "metrics.json"),
        "files": {
            path.relative_to(folder).as_posix(): path.stat().st_size
            for path in sorted([*folder.iterdir(), *folder.glob(f"{STAGES_FOLDER}/*")])
            if path.is_file()
        },
    }


def _drop_errors(path: Path) -> dict[str, float]:
    """Standard errors in ``metrics.json``; a folder may lack the file, and older versions wrote none."""
    if not path.is_file():
        return {}
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        return {row["name"]: row[_DROP_ERROR] for row in rows if _DROP_ERROR in row}
    except (ValueError, LookupError, TypeError) as error:
        raise ExportError(f"'{path}' holds no metrics; export the folder anew") from error


def _describe_file(path: Path) -> dict[str, Any]:
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf raises classes of its own
        raise ExportError(f"'{path}' is no ONNX file; export it anew") from error
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if "stages" not in metadata:
        raise ExportError(f"'{path}' has no metadata 'stages'; it is no dynamic model")
    said = {name: json.loads(metadata[name]) for name in ("labels", "default", "version")}
    inputs = [_input(value) for value in model.graph.input if value.name != "thresholds"]
    return {"stages": [*json.loads(metadata["stages"]), "final"], "inputs": inputs, **said}


def _describe_segments(config: DynamicExitModelConfig) -> dict[str, Any]:
    return {
        "stages": [*config.stages, "final"],
        "inputs": [_said(each["name"], each["dtype"], ["batch", *each["shape"]]) for each in config.inputs],
        "labels": [config.id2label[index] for index in sorted(config.id2label)],
        "default": config.parts["default"],
        "version": config.format_version,
    }


def _input(value: onnx.ValueInfoProto) -> str:
    kind = value.type.tensor_type
    dims = [dim.dim_param or dim.dim_value for dim in kind.shape.dim]
    return _said(value.name, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type), dims)


def _said(name: str, dtype: object, dims: Sequence[int | str]) -> str:
    return f"{name} {dtype} ({', '.join(map(str, dims))})"
