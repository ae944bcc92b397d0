"""Answers with one file a stage, in onnxruntime or torch; opens whatever a folder holds."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from ..errors import ExportError, first_line
from ..onnx.inference import CPU
from ..onnx.part import Part
from ..onnx.session import PartSession, open_session
from ..runtime.archive import ArchivedPart, unpack
from ..runtime.compile import compile_part, fold_constants
from ..runtime.model import DynamicExitModel
from .file_runner import Answer, FileRunner, Runner
from .folder import CONFIG_FILE, MODEL_FILE, POINTS_FILE, check_files
from .model_config import DynamicExitModelConfig


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
        return FileRunner(open_session(str(folder / MODEL_FILE), providers=[provider or CPU], options=options))
    check_files(folder, config.checksums, [POINTS_FILE, *part_files(config)])
    if config.target == "torch":
        return SegmentsRunner(folder, config, partial(_load_archive, config.compile if compiled is None else compiled))
    return SegmentsRunner(folder, config, partial(_load_part, [provider or CPU], options))


def part_files(config: DynamicExitModelConfig) -> list[str]:
    """Return the files that a configuration names as parts."""
    entries = [entry for found in config.parts.values() if isinstance(found, list) for entry in found]
    return [entry["file"] for entry in entries if "file" in entry]


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
