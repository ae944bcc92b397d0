"""What answers inside a loaded model: one session of the whole file, or one session or torch module a stage."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from ..errors import ExportError, first_line
from ..onnx.part import Part
from ..onnx.session import PartSession, open_session
from ..runtime.archive import ArchivedPart, unpack
from ..runtime.compile import compile_part, fold_constants
from ..runtime.model import DynamicExitModel
from .folder import CONFIG_FILE, MODEL_FILE, POINTS_FILE, check_files
from .manifest import DynamicExitModelConfig

_PROVIDER = "CPUExecutionProvider"
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
        load_part: Opens one file, for inputs of given names.

    Raises:
        ExportError: A file is missing or no part of a chain.
    """

    def __init__(
        self, folder: Path, config: DynamicExitModelConfig, load_part: Callable[[Path, Sequence[str]], nn.Module]
    ):
        def load(entry: Mapping[str, Any]) -> nn.Module:
            return load_part(folder / entry["file"], entry["takes"])

        try:
            parts = config.parts
            self.default, self.fuse = parts["default"], parts["fuse"]
            self.inputs = config.inputs
            self.input_names = tuple(each["name"] for each in config.inputs)
            self.model = DynamicExitModel(
                [load(entry) for entry in parts["segments"]],
                input_names=self.input_names,
                savers={entry["name"]: load(entry) for entry in parts["savers"]},
                exits={entry["name"]: (entry["position"], load(entry)) for entry in parts["exits"]},
                taps={entry["position"]: load(entry) for entry in parts["notes"]},
                fuse=self.fuse,
            )
        except (KeyError, TypeError) as error:
            said = f"breaks the format of `parts` at {error}; export it anew"
            raise ExportError(f"'{folder / CONFIG_FILE}' {said}") from error
        self.stages = self.model.chain
        self._classes = self.model.segments[-1].width

    def run(self, feeds: Mapping[str, np.ndarray], thresholds: np.ndarray) -> Answer:
        """Answer a batch, as `Runner` says."""
        tensors = {name: torch.from_numpy(array) for name, array in feeds.items()}
        if not len(next(iter(tensors.values()))):
            return np.zeros((0, self._classes), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32)
        with torch.no_grad():
            return tuple(value.numpy() for value in self.model.answer(thresholds.tolist(), tensors))


def open_runner(
    folder: Path,
    config: DynamicExitModelConfig,
    provider: str | None = None,
    options: onnxruntime.SessionOptions | None = None,
    compiled: bool | None = None,
) -> Runner:
    """Open what a folder holds.

    Args:
        folder: Where the files lie.
        config: The folder's.
        provider: onnxruntime's execution provider; None is ``CPUExecutionProvider``.
        options: onnxruntime's further options.
        compiled: With the target ``torch``: whether to compile; None: as the configuration says.

    Raises:
        ExportError: A file is missing, altered or unreadable, or an option is of another target.
    """
    if config.target == "torch" and (provider is not None or options is not None):
        said = "provider= and session_options= are for onnxruntime; leave them out"
        raise ExportError(f"'{folder}' is for torch, {said}")
    if config.target == "onnxruntime" and compiled:
        raise ExportError(f"'{folder}' is for onnxruntime, compile= is for torch; leave it out")
    if config.layout == "single":
        check_files(folder, config.checksums, [MODEL_FILE, POINTS_FILE])
        return FileRunner(open_session(str(folder / MODEL_FILE), providers=[provider or _PROVIDER], options=options))
    check_files(folder, config.checksums, [POINTS_FILE, *part_files(config)])
    if config.target == "torch":
        return SegmentsRunner(folder, config, partial(_load_archive, config.compile if compiled is None else compiled))
    return SegmentsRunner(folder, config, partial(_load_part, [provider or _PROVIDER], options))


def part_files(config: DynamicExitModelConfig) -> list[str]:
    """Return the files that a configuration names as parts."""
    entries = [entry for found in config.parts.values() if isinstance(found, list) for entry in found]
    return [entry["file"] for entry in entries if "file" in entry]


def _spec(value: onnxruntime.NodeArg) -> dict[str, Any]:
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    dtype = {"float": "float32", "double": "float64"}.get(kind, kind)
    return {"name": value.name, "dtype": dtype, "shape": [side or "free" for side in value.shape[1:]]}


def _load_archive(compiled: bool, path: Path, input_names: Sequence[str]) -> ArchivedPart:
    part = unpack(path, input_names)
    return compile_part(part, path.stem) if compiled else fold_constants(part)


def _load_part(providers: list[str], options, path: Path, input_names: Sequence[str]) -> PartSession:
    try:
        proto = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf raises classes of its own
        raise ExportError(f"'{path}' cannot be read as ONNX: {first_line(error)}; export it anew") from error
    session = open_session(str(path), providers=providers, options=options)
    return PartSession(Part(path.stem, proto, tuple(input_names), ""), session=session)
