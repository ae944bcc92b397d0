"""Opens the folder of a dynamic model, and runs those of one file per part."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from ..chain.spec import ChainSpec
from ..core.forks import in_fork
from ..errors import DynamicExitError, ExportError, first_line
from ..onnx.inference import Provider
from ..onnx.part import Part
from ..onnx.session import PartSession, open_session
from ..recipe.target_registry import TARGETS
from ..runtime.model import DynamicExitModel
from .file_runner import Answer, Runner
from .folder import POINTS_FILE, check_files
from .manifest import CONFIG_FILE, Manifest

#: Opens the file of a part for inputs of the given names.
LoadPart = Callable[[Path, Sequence[str]], nn.Module]


def load_chain(folder: Path, spec: ChainSpec, files: Mapping[str, str], load_part: LoadPart) -> DynamicExitModel:
    """Load the parts of a chain as a dynamic model, with all stages off.

    Args:
        folder: The folder.
        spec: Its chain.
        files: Role of a part -> its file.
        load_part: Opens a file for inputs of the given names.

    Raises:
        ExportError: A file is not named or cannot be read, or the parts do not form this chain.
    """
    for role in spec.roles:
        if role not in files:
            raise ExportError(f"'{folder / CONFIG_FILE}' names no file for the part '{role}'; export it anew")
    loaded = {role: load_part(folder / files[role], names) for role, names in spec.roles.items()}
    taps = {tap.position: loaded[f"tap{index}"] for index, tap in enumerate(spec.taps)}
    try:
        return DynamicExitModel(
            [loaded[f"segment{place}"] for place in range(len(spec.segments))],
            input_names=spec.inputs,
            savers={stage.name: loaded[f"saver{index}"] for index, stage in enumerate(spec.savers)},
            exits={stage.name: (stage.position, loaded[f"exit{i}"]) for i, stage in enumerate(spec.exits)},
            taps=taps,
            fuse=spec.fuse,
        )
    except DynamicExitError as error:
        raise ExportError(f"'{folder / CONFIG_FILE}' does not fit the files beside it: {error}") from error


class SegmentsRunner:
    """Runs one file per part, with the same loop as the torch model; stages that are not needed do not run.

    Args:
        folder: The folder.
        manifest: Its manifest.
        load_part: Opens a file for inputs of the given names.

    Raises:
        ExportError: As for `load_chain`.
    """

    def __init__(self, folder: Path, manifest: Manifest, load_part: LoadPart):
        if manifest.chain is None:
            raise ExportError(f"'{folder / CONFIG_FILE}' describes no chain; export it anew")
        if in_fork():
            torch.set_num_threads(1)  # its other threads stayed in the parent, and work for them would never end
        self.manifest, self.input_names = manifest, manifest.chain.inputs
        self.model = load_chain(folder, manifest.chain, manifest.files, load_part)
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


def open_runner(folder: Path, manifest: Manifest, **options: object) -> Runner:
    """Open the model of a folder.

    Args:
        folder: The folder.
        manifest: Its manifest.
        **options: Of the folder's target, such as ``provider`` and ``session_options`` for onnxruntime or ``compile``
            for torch; one that is None is left to the target.

    Raises:
        ExportError: A file is missing, altered or unreadable, or an option is of another target.
    """
    kind = TARGETS.find(manifest.target)
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in kind.loading:
            raise ExportError(f"'{folder}' is for {manifest.target}, {_whose_option(name)}")
    check_files(folder, manifest, [POINTS_FILE, *manifest.files.values()])
    return cast(Runner, kind.open(folder, manifest, given))


def _whose_option(name: str) -> str:
    """Say for which target an option of loading is, with the others that it comes with."""
    other, options = next((key, sorted(kind.loading)) for key, kind in TARGETS.items().items() if name in kind.loading)
    verb, pronoun = ("are", "them") if len(options) > 1 else ("is", "it")
    return f"{' and '.join(f'{each}=' for each in options)} {verb} for {other}; leave {pronoun} out"


def load_onnx_part(
    providers: Sequence[Provider], options: onnxruntime.SessionOptions | None, path: Path, input_names: Sequence[str]
) -> PartSession:
    """Open the ONNX file of a part in onnxruntime.

    Raises:
        ExportError: It cannot be read.
    """
    part = read_onnx_part(path, input_names)
    return PartSession(part, session=open_session(str(path), providers=providers, options=options))


def read_onnx_part(path: Path, input_names: Sequence[str]) -> Part:
    """Read the ONNX file of a part, without weights that are in a file of their own.

    Raises:
        ExportError: It cannot be read.
    """
    try:
        proto = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf raises classes of its own
        raise ExportError(f"'{path}' cannot be read as ONNX: {first_line(error)}; export it anew") from error
    return Part(path.stem, proto, tuple(input_names), "")
