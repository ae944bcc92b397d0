"""Runs a folder of the layout ``segments``, one file per stage; opens a folder of any layout."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from ..errors import ExportError, first_line
from ..onnx.inference import CPU
from ..onnx.part import Part
from ..onnx.session import PartSession, open_session
from ..runtime.model import DynamicExitModel
from .file_runner import Answer, FileRunner, Runner
from .folder import MODEL_FILE, POINTS_FILE, check_files
from .manifest import CONFIG_FILE, InputSpec, PartEntry
from .model_config import DynamicExitModelConfig

if TYPE_CHECKING:
    from ..runtime.archive import ArchivedPart


class SegmentsRunner:
    """Runs one file per stage, with the same loop as the torch model; stages that are not needed do not run.

    Args:
        folder: The folder.
        config: Its configuration, which lists the files in `parts`.
        load_part: Opens a file for inputs of the given names.

    Raises:
        ExportError: A file is missing, or not a part of a chain.
    """

    def __init__(
        self, folder: Path, config: DynamicExitModelConfig, load_part: Callable[[Path, Sequence[str]], nn.Module]
    ):
        def load(entry: PartEntry) -> nn.Module:
            return load_part(folder / entry["file"], entry["takes"])

        try:
            parts = config.parts
            self.default, self.fuse = parts["default"], parts["fuse"]
            self.inputs: Sequence[InputSpec] = config.inputs
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
            raise ExportError(
                f"'{folder / CONFIG_FILE}' breaks the format of `parts` at {error}; export it anew"
            ) from error
        self.stages = self.model.chain
        self._classes = cast(int, self.model.segments[-1].width)

    def run(self, feeds: Mapping[str, np.ndarray], thresholds: np.ndarray) -> Answer:
        """Classify a batch, as `Runner.run`."""
        tensors = {name: torch.from_numpy(array) for name, array in feeds.items()}
        if not len(next(iter(tensors.values()))):
            return np.zeros((0, self._classes), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32)
        with torch.no_grad():
            logits, exit_index, confidence = self.model.answer(thresholds.tolist(), tensors)
        return logits.numpy(), exit_index.numpy(), confidence.numpy()


def open_runner(
    folder: Path,
    config: DynamicExitModelConfig,
    provider: str | None = None,
    options: onnxruntime.SessionOptions | None = None,
    compiled: bool | None = None,
) -> Runner:
    """Open the model of a folder.

    Args:
        folder: The folder.
        config: Its configuration.
        provider: Execution provider of onnxruntime; None is ``CPUExecutionProvider``.
        options: Further options of onnxruntime.
        compiled: For the target ``torch``: whether to compile; None as the configuration says.

    Raises:
        ExportError: A file is missing, altered or unreadable, or an option is of another target.
    """
    if config.target == "torch" and (provider is not None or options is not None):
        raise ExportError(
            f"'{folder}' is for torch, provider= and session_options= are for onnxruntime; leave them out"
        )
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
    """List the files in the `parts` of a configuration."""
    entries = [entry for value in config.parts.values() if isinstance(value, list) for entry in value]
    return [entry["file"] for entry in entries if "file" in entry]


def _load_archive(compiled: bool, path: Path, input_names: Sequence[str]) -> "ArchivedPart":
    # only folders for torch need these, and they take half a second to import
    from ..runtime.archive import unpack
    from ..runtime.compile import compile_part, fold_constants

    part = unpack(path, input_names)
    return compile_part(part, path.stem) if compiled else fold_constants(part)


def _load_part(
    providers: list[str], options: onnxruntime.SessionOptions | None, path: Path, input_names: Sequence[str]
) -> PartSession:
    try:
        proto = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf raises classes of its own
        raise ExportError(f"'{path}' cannot be read as ONNX: {first_line(error)}; export it anew") from error
    session = open_session(str(path), providers=providers, options=options)
    return PartSession(Part(path.stem, proto, tuple(input_names), ""), session=session)
