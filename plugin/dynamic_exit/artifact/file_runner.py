"""Answers with the one ONNX file of a folder; needs onnxruntime and numpy alone."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import onnxruntime

from ..errors import ExportError
from .folder import MODEL_FILE

Answer = tuple[np.ndarray, np.ndarray, np.ndarray]


class Runner(Protocol):
    """Answers batches at given thresholds; safe from any thread.

    Attributes:
        stages: Names of the stages before the final, in the order of thresholds.
        input_names: Of the model's inputs.
        default: Name of the operating point to start with, or None.
        fuse: ``none`` or ``mean``; None where it is not said.
        inputs: For each input ``name``, ``dtype`` and ``shape`` without batch; a free dimension is its name.
    """

    stages: tuple[str, ...]
    input_names: tuple[str, ...]
    inputs: Sequence[Mapping[str, Any]]
    default: str | None
    fuse: str | None

    def run(self, feeds: Mapping[str, np.ndarray], thresholds: np.ndarray) -> Answer:
        """Return logits float32 (N, C), exit index int64 (N,) and confidence float32 (N,).

        Args:
            feeds: Inputs by name, each (N, ...).
            thresholds: float32 (S,), one for each of `stages`.
        """


class FileRunner:
    """Runs the one ONNX file.

    Args:
        session: Of the file.

    Raises:
        ExportError: It is no dynamic model.
    """

    def __init__(self, session: onnxruntime.InferenceSession):
        self.session = session
        metadata = session.get_modelmeta().custom_metadata_map
        if "stages" not in metadata:
            raise ExportError(f"{MODEL_FILE} holds no dynamic model: it has no metadata 'stages'; export it anew")
        self.stages = tuple(json.loads(metadata["stages"]))
        self.default = json.loads(metadata.get("default", "null"))
        points = json.loads(metadata.get("operating_points", "{}")).get("points")
        self.fuse = points[0]["fuse"] if points else None
        self.inputs = [_spec(value) for value in session.get_inputs() if value.name != "thresholds"]
        self.input_names = tuple(spec["name"] for spec in self.inputs)

    def run(self, feeds: Mapping[str, np.ndarray], thresholds: np.ndarray) -> Answer:
        """Answer a batch, as `Runner` says."""
        return tuple(self.session.run(["logits", "exit_index", "confidence"], {**feeds, "thresholds": thresholds}))


def _spec(value: onnxruntime.NodeArg) -> dict[str, Any]:
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    dtype = {"float": "float32", "double": "float64"}.get(kind, kind)
    return {"name": value.name, "dtype": dtype, "shape": [side or "free" for side in value.shape[1:]]}
