"""Runs a folder of the layout ``single``, one ONNX file; needs only onnxruntime and numpy."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import onnxruntime

from ..errors import ExportError
from ..trust.json_file import parse_json
from .file_metadata import complete
from .folder import MODEL_FILE
from .manifest import CONFIG_FILE, InputSpec, Manifest

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
        self.stages = _names(metadata["stages"])  # held against the manifest's by who switches points
        inputs = [_spec(value) for value in session.get_inputs() if value.name != "thresholds"]
        self.manifest = complete(manifest, metadata, inputs)
        self.input_names = tuple(spec["name"] for spec in inputs)
        _check_answers(session, manifest)

    def run(self, feeds: Mapping[str, np.ndarray], thresholds: np.ndarray) -> Answer:
        """Classify a batch, as `Runner.run`."""
        outputs = ["logits", "exit_index", "confidence"]
        logits, exit_index, confidence = self.session.run(outputs, {**feeds, "thresholds": thresholds})
        return logits, exit_index, confidence


def _names(text: str) -> tuple[str, ...]:
    try:
        names = parse_json(text)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("they are no list of names")
    except ValueError as error:
        raise ExportError(
            f"{MODEL_FILE} breaks the format at its metadata 'stages': {error}; export it anew"
        ) from error
    return tuple(names)


def _check_answers(session: onnxruntime.InferenceSession, manifest: Manifest) -> None:
    """Check that a file gives what is asked of it, of as many classes as the manifest names."""
    outputs = {value.name: value for value in session.get_outputs()}
    missing = {"logits", "exit_index", "confidence"} - {*outputs}
    if missing:
        raise ExportError(f"{MODEL_FILE} has no output '{min(missing)}'; export it anew")
    width = outputs["logits"].shape[-1] if outputs["logits"].shape else None
    if manifest.labels and isinstance(width, int) and width != len(manifest.labels):
        raise ExportError(
            f"{MODEL_FILE} answers {width} classes, {CONFIG_FILE} names {len(manifest.labels)}; export it anew"
        )


def _spec(value: onnxruntime.NodeArg) -> InputSpec:
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    dtype = {"float": "float32", "double": "float64"}.get(kind, kind)
    return {"name": value.name, "dtype": dtype, "shape": [side or "free" for side in value.shape[1:]]}
