"""Runs a folder of the layout ``single``, one ONNX file; needs only onnxruntime and numpy."""

import json
from collections.abc import Mapping
from typing import Protocol

import numpy as np
import onnxruntime

from ..errors import ExportError
from .file_metadata import complete
from .folder import MODEL_FILE
from .manifest import InputSpec, Manifest

Answer = tuple[np.ndarray, np.ndarray, np.ndarray]


class Runner(Protocol):
    """Classifies batches at given thresholds; safe from any thread.

    Attributes:
        manifest: Of the folder, with what an older one leaves to its file.
        stages: Names of the stages before the final one, in the order of thresholds, as the model itself has them.
        input_names: Names of the model's inputs.
    """

    manifest: Manifest
    stages: tuple[str, ...]
    input_names: tuple[str, ...]

    def run(self, feeds: Mapping[str, np.ndarray], thresholds: np.ndarray) -> Answer:
        """Return logits float32 (N, C), exit index int64 (N,) and confidence float32 (N,).

        Args:
            feeds: Inputs by name, each (N, ...).
            thresholds: float32 (S,), one per stage in `stages`.
        """


class FileRunner:
    """Runs the ONNX file of a dynamic model.

    Args:
        session: The file's session.
        manifest: Manifest of its folder.

    Raises:
        ExportError: The file is not a dynamic model.
    """

    def __init__(self, session: onnxruntime.InferenceSession, manifest: Manifest):
        self.session = session
        metadata = session.get_modelmeta().custom_metadata_map
        if "stages" not in metadata:
            raise ExportError(f"{MODEL_FILE} holds no dynamic model: it has no metadata 'stages'; export it anew")
        self.stages = tuple(json.loads(metadata["stages"]))  # held against the manifest's by who switches points
        inputs = [_spec(value) for value in session.get_inputs() if value.name != "thresholds"]
        self.manifest = complete(manifest, metadata, inputs)
        self.input_names = tuple(spec["name"] for spec in inputs)

    def run(self, feeds: Mapping[str, np.ndarray], thresholds: np.ndarray) -> Answer:
        """Classify a batch, as `Runner.run`."""
        outputs = ["logits", "exit_index", "confidence"]
        logits, exit_index, confidence = self.session.run(outputs, {**feeds, "thresholds": thresholds})
        return logits, exit_index, confidence


def _spec(value: onnxruntime.NodeArg) -> InputSpec:
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    dtype = {"float": "float32", "double": "float64"}.get(kind, kind)
    return {"name": value.name, "dtype": dtype, "shape": [side or "free" for side in value.shape[1:]]}
