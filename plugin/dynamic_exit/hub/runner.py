"""What answers inside a loaded model: one session of the whole file, or one session a stage."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import onnxruntime
import torch

from ..errors import ExportError, first_line
from ..onnx.parts import Part
from ..onnx.session import PartSession, open_session
from ..runtime.model import DynamicExitModel
from .configuration import DynamicExitConfig
from .folder import CONFIG_FILE, MODEL_FILE

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


class SegmentsRunner:
    """Runs one file a stage, driven by the same loop as the torch model; only what is needed is run.

    Args:
        folder: Where the files lie.
        config: Says in `parts` which file is what.
        providers: Execution providers of every session.
        options: Of every session.

    Raises:
        ExportError: A file is missing or no part of a chain.
    """

    def __init__(
        self,
        folder: Path,
        config: DynamicExitConfig,
        providers: list[str],
        options: onnxruntime.SessionOptions | None = None,
    ):
        def load(entry: Mapping[str, Any]) -> PartSession:
            return _load_part(folder / entry["file"], entry["takes"], providers, options)

        try:
            parts = config.parts
            self.default, self.fuse = parts["default"], parts["fuse"]
            self.inputs = config.inputs
            self.input_names = tuple(each["name"] for each in config.inputs)
            self._model = DynamicExitModel(
                [load(entry) for entry in parts["segments"]],
                input_names=self.input_names,
                savers={entry["name"]: load(entry) for entry in parts["savers"]},
                exits={entry["name"]: (entry["position"], load(entry)) for entry in parts["exits"]},
                notes={entry["position"]: load(entry) for entry in parts["notes"]},
                fuse=self.fuse,
            )
        except (KeyError, TypeError) as error:
            said = f"breaks the format of `parts` at {error}; export it anew"
            raise ExportError(f"'{folder / CONFIG_FILE}' {said}") from error
        self.stages = self._model.chain
        self._classes = self._model.segments[-1].width

    def run(self, feeds: Mapping[str, np.ndarray], thresholds: np.ndarray) -> Answer:
        """Answer a batch, as `Runner` says."""
        tensors = {name: torch.from_numpy(array) for name, array in feeds.items()}
        if not len(next(iter(tensors.values()))):
            return np.zeros((0, self._classes), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32)
        with torch.no_grad():
            return tuple(value.numpy() for value in self._model.answer(thresholds.tolist(), tensors))


def part_files(config: DynamicExitConfig) -> list[str]:
    """Return the files that a configuration names as parts."""
    entries = [entry for found in config.parts.values() if isinstance(found, list) for entry in found]
    return [entry["file"] for entry in entries if "file" in entry]


def _spec(value: onnxruntime.NodeArg) -> dict[str, Any]:
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    dtype = {"float": "float32", "double": "float64"}.get(kind, kind)
    return {"name": value.name, "dtype": dtype, "shape": [side or "free" for side in value.shape[1:]]}


def _load_part(path: Path, takes, providers: list[str], options) -> PartSession:
    try:
        proto = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf raises classes of its own
        raise ExportError(f"'{path}' cannot be read as ONNX: {first_line(error)}; export it anew") from error
    session = open_session(str(path), providers=providers, options=options)
    return PartSession(Part(path.stem, proto, tuple(takes), ""), session=session)
