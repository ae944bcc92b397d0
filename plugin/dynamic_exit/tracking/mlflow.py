"""Written folders in MLflow: parameters, metrics, pictures, and the model as a pyfunc; needs the extra `mlflow`."""

import importlib.metadata
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..artifact.folder import POINTS_FILE, RECIPE_FILE
from ..artifact.manifest import Manifest, read_manifest
from ..artifact.standalone import load_runner
from ..errors import InputError
from ..output.run_log import LOG_FILE
from ..points.operating_point import OperatingPoints
from ..report.metrics import METRICS_FILE, Metrics

# values of parameters that are longer are refused by MLflow
_LONGEST = 6_000
_DISTRIBUTION = "neural-compressor-dynamic-exit"


class PyfuncModel:
    """A folder as MLflow serves it.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: str):
        self.runner = load_runner(folder)

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
        """Classify a batch.

        Args:
            model_input: An array (N, ...), or arrays by name.
            params: ``operating_point`` is the name of one; it stays for further calls.

        Returns:
            ``logits`` (N, C), ``exit_index`` (N,) and ``confidence`` (N,).

        Raises:
            InputError: The inputs are neither an array nor arrays by name, or do not fit the model.
            OperatingPointError: There is no such point.
        """
        if point := (params or {}).get("operating_point"):
            self.runner.set_operating_point(point)
        if isinstance(model_input, Mapping):
            arrays: dict[str, Any] = {name: np.asarray(array) for name, array in model_input.items()}
            found = self.runner(**arrays)
        elif isinstance(model_input, np.ndarray):
            found = self.runner(model_input)
        else:
            kind = type(model_input).__name__
            raise InputError(f"the model takes an array, or a dict of arrays by name; got {kind}")
        return {"logits": found.logits, "exit_index": found.exit_index, "confidence": found.confidence}


def log_folder(folder: str | os.PathLike[str], name: str = "model") -> str:
    """Log a folder that `run` wrote to the active run of MLflow, or to a new one.

    Logged are the recipe as parameters with dotted names, accuracy, cost and speed-ups of every operating point as
    metrics, report, model card and a picture of the trade-off as artifacts, and the model as a pyfunc, without pickle.

    Args:
        folder: The folder.
        name: Of the model within the run.

    Returns:
        The URI of the model, which `mlflow.pyfunc.load_model` takes.

    Raises:
        ExportError: The folder is no complete model.
    """
    import mlflow
    import mlflow.pyfunc

    from ..report.front import plot_front

    folder = Path(folder)
    manifest, points = read_manifest(folder), OperatingPoints.read(folder / POINTS_FILE)
    # without pickle: MLflow calls `_load_pyfunc` of this module with a copy of the folder
    with tempfile.TemporaryDirectory() as place:
        copied = Path(place, "dynamic_exit")
        shutil.copytree(folder, copied, ignore=shutil.ignore_patterns(LOG_FILE))
        mlflow.log_params(_flat(yaml.safe_load((folder / RECIPE_FILE).read_text(encoding="utf-8"))))
        mlflow.log_metrics(_figures(Metrics.read(folder / METRICS_FILE)))
        plot_front(points, Path(place, "front.png"))
        for file in (Path(place, "front.png"), folder / "report.html", folder / "README.md", folder / METRICS_FILE):
            mlflow.log_artifact(str(file))
        info = mlflow.pyfunc.log_model(
            name=name,
            loader_module=__name__,
            data_path=str(copied),
            signature=_signature(manifest, points),
            pip_requirements=[f"{_DISTRIBUTION}[serve]=={importlib.metadata.version(_DISTRIBUTION)}"],
        )
    return str(info.model_uri)


def _load_pyfunc(data_path: str) -> PyfuncModel:
    """Open a logged model, as MLflow calls it."""
    return PyfuncModel(data_path)


def _flat(values: Any, key: str = "") -> dict[str, str]:
    """Return the values of a recipe by dotted key, lists as JSON."""
    if isinstance(values, dict) and values:
        return {name: value for step, each in values.items() for name, value in _flat(each, f"{key}.{step}").items()}
    return {key[1:]: json.dumps(values, default=str)[:_LONGEST] if not isinstance(values, str) else values}


def _figures(metrics: Metrics) -> dict[str, float]:
    """Return the figures of every row; names may hold letters, digits and few signs."""
    found: dict[str, float] = {}
    for row in metrics.rows:
        name = row.name.replace("%", "").replace(",", "")
        found |= {f"{name}/accuracy": row.accuracy, f"{name}/cost_ratio": row.cost_ratio}
        found |= {f"{name}/speed_up_batch_{size}": value for size, value in row.speed_up.items()}
    return found


def _signature(manifest: Manifest, points: OperatingPoints) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

    named = len(manifest.inputs) > 1
    inputs: list[Any] = []
    for each in manifest.inputs:
        shape = (-1, *(side if isinstance(side, int) else -1 for side in each["shape"]))
        inputs.append(TensorSpec(np.dtype(each["dtype"]), shape, each["name"] if named else None))
    default = manifest.default or points.names[0]
    return ModelSignature(Schema(inputs), params=ParamSchema([ParamSpec("operating_point", "string", default)]))
