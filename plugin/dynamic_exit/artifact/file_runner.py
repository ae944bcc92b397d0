"""Runs a folder of the layout ``single``, one ONNX file; needs only onnxruntime and numpy."""

import json
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import onnxruntime

from ..chain.evidence import Evidence
from ..errors import ExportError
from .folder import MODEL_FILE
from .manifest import InputSpec, Manifest

Answer = tuple[np.ndarray, np.ndarray, np.ndarray]


class Runner(Protocol):
    """Classifies batches at given thresholds; safe from any thread.

    Attributes:
        stages: Names of the stages before the final one, in the order of thresholds.
        input_names: Names of the model's inputs.
        default: Name of the initial operating point, or None.
        fuse: How answers are combined; None if unknown.
    """

    stages: tuple[str, ...]
    input_names: tuple[str, ...]
    default: str | None
    fuse: Evidence | None

    @property
    def inputs(self) -> Sequence[InputSpec]:
        """The model's inputs."""

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
        self.default, self.fuse = manifest.default, manifest.evidence
        if manifest.chain is None:  # of version 1, where the file alone says this
            self.default = json.loads(metadata.get("default", "null"))
            points = json.loads(metadata.get("operating_points", "{}")).get("points")
            self.fuse = Evidence(points[0]["fuse"]) if points else None
        self.inputs: Sequence[InputSpec] = [
            _spec(value) for value in session.get_inputs() if value.name != "thresholds"
        ]
        self.input_names = tuple(spec["name"] for spec in self.inputs)

    def run(self, feeds: Mapping[str, np.ndarray], thresholds: np.ndarray) -> Answer:
        """Classify a batch, as `Runner.run`."""
        outputs = ["logits", "exit_index", "confidence"]
        logits, exit_index, confidence = self.session.run(outputs, {**feeds, "thresholds": thresholds})
        return logits, exit_index, confidence


def _spec(value: onnxruntime.NodeArg) -> InputSpec:
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    dtype = {"float": "float32", "double": "float64"}.get(kind, kind)
    return {"name": value.name, "dtype": dtype, "shape": [side or "free" for side in value.shape[1:]]}
