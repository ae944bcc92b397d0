"""Dynamic models with numpy inputs and outputs; needs only onnxruntime, numpy and pydantic."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import ExportError, InputError
from ..onnx.inference import CPU, open_file
from ..points.operating_point import OperatingPoints
from ..recipe.target_registry import DEFAULT_TARGET
from ..trust.signature import Key, as_option, verify_folder
from .file_runner import FileRunner, Runner
from .folder import MODEL_FILE, POINTS_FILE, as_path, check_files, missing_folder
from .inputs import check_inputs
from .manifest import Manifest, read_manifest
from .non_finite import DEFAULT, NonFinite, answer, check_choice
from .reopening import Opening, Reopens
from .switch import OperatingPointSwitch

if TYPE_CHECKING:
    import onnxruntime


class Answers(NamedTuple):
    """The output of a dynamic model.

    Attributes:
        logits: float32 (N, C).
        exit_index: int64 (N,): index of the stage that answered; the final stage is the last.
        confidence: float32 (N,) in 0..1: how sure the answer is, by the rule of the operating point.
    """

    logits: np.ndarray
    exit_index: np.ndarray
    confidence: np.ndarray


class DynamicExitRunner(Reopens):
    """A loaded model that takes and returns numpy arrays; safe from any thread.

    Args:
        runner: Runs the model.
        operating_points: The operating points to switch between.
        operating_point: Name of the initial point; None is the folder's default.

    Attributes:
        stages: Names of the stages before the final one, in the order of `thresholds`.
        input_names: Names of the model's inputs.
        labels: Class names in the order of the logits.
        operating_points: The operating points to switch between.
    """

    def __init__(self, runner: Runner, operating_points: OperatingPoints, operating_point: str | None = None):
        self._start(runner)
        self._manifest = runner.manifest
        self._switch = OperatingPointSwitch(runner, operating_points, operating_point)
        self.stages, self.input_names = runner.stages, runner.input_names
        self.labels, self.operating_points = runner.manifest.labels, operating_points

    @property
    def manifest(self) -> Manifest:
        """What the folder says of its model."""
        return self._manifest

    def __call__(self, *inputs: np.ndarray, thresholds: Sequence[float] | None = None, **named: np.ndarray) -> Answers:
        """Classify a batch.

        Args:
            *inputs: Each (N, ...), in the order of `input_names`, as the model was exported.
            thresholds: For this call only, one per stage in `stages`; None uses the current operating point.
            **named: Inputs by name.

        Returns:
            The answers.

        Raises:
            InputError: An input is missing, unknown, passed twice, of a wrong shape or dtype, or not finite, unless the
                model was loaded with ``non_finite="report"``.
            OperatingPointError: The number of thresholds is wrong, or one is NaN.
        """
        if len(inputs) > len(self.input_names):
            raise InputError(f"the model takes the inputs {', '.join(self.input_names)}; got {len(inputs)} arrays")
        positional = dict(zip(self.input_names, inputs, strict=False))
        for name in named:
            if name in positional:
                raise InputError(f"input '{name}' came in twice, by its place and by its name; give it once")
        runner = self._current_runner() if self._left_parent else self._runner
        manifest = self._manifest
        feeds = check_inputs({**positional, **named}, self.input_names, manifest.inputs, manifest.max_tokens)
        chosen = self._switch.active[1] if thresholds is None else self._switch.check(thresholds)
        return Answers(*answer(runner, feeds, chosen, self._non_finite))


def load_runner(
    folder: str | os.PathLike[str],
    operating_point: str | None = None,
    *,
    provider: str | None = None,
    session_options: "onnxruntime.SessionOptions | None" = None,
    device: str | None = None,
    public_key: Key | None = None,
    non_finite: NonFinite = DEFAULT,
) -> DynamicExitRunner:
    """Load a folder that ``dynamic-exit run`` wrote, without torch or transformers.

    Args:
        folder: The folder. It needs the extra `serve` unless it has ``layout: single`` and is for onnxruntime.
        operating_point: Name of the initial point; None is the folder's default.
        provider: Execution provider of onnxruntime; None is ``CPUExecutionProvider``.
        session_options: Further options of onnxruntime.
        device: OpenVINO's name of a device, for folders of the target openvino; None is ``CPU``.
        public_key: Of the author, a PEM file: its path or its content; the folder must then be signed by it.
        non_finite: ``refuse``: inputs that hold NaN or infinity, and answers that are NaN, are errors; ``report``: such
            rows have logits and confidence of NaN and the exit index of the last stage.

    Returns:
        The model.

    Raises:
        ArgumentError: `folder` is neither text nor a path, or `non_finite` is neither of both.
        MissingFileError: The folder or one of its files is missing.
        ExportError: The folder is altered or of a newer version, needs what is not installed, or is for another
            runtime than an option.
        SignatureError: It is not signed by `public_key`, or holds something else than what was signed.
        InputError: The provider or the device is not on this machine.
        OperatingPointError: The operating point is unknown.
    """
    check_choice(non_finite)
    path = as_path(folder)
    if not path.is_dir():
        raise missing_folder(folder)
    if public_key is not None:
        verify_folder(path, public_key)
    manifest = read_manifest(path)
    options = {"provider": provider, "session_options": session_options, "device": device}
    given = {name: value for name, value in options.items() if value is not None}
    if manifest.layout == "single" and manifest.target == DEFAULT_TARGET and device is None:
        check_files(path, manifest, [MODEL_FILE, POINTS_FILE])
        session = open_file(str(path / MODEL_FILE), providers=[provider or CPU], options=session_options)
        runner: Runner = FileRunner(session, manifest)
    else:
        runner = _open_with_torch(path, manifest, given)
    model = DynamicExitRunner(runner, OperatingPoints.read(path / POINTS_FILE), operating_point)
    model._non_finite = non_finite
    again = {**given, **as_option(public_key), "non_finite": non_finite}
    model._opening = Opening(load_runner, (path.absolute(),), again)
    return model


def threads_option(threads: int) -> "onnxruntime.SessionOptions":
    """Return options of onnxruntime with so many threads within an operator, for `load_runner`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return options


def _open_with_torch(folder: Path, manifest: Manifest, options: Mapping[str, Any]) -> Runner:
    """Open a folder with one file per stage, or for another runtime, which needs torch."""
    try:
        from .runner import open_runner
    except ModuleNotFoundError as error:
        files = "one file a stage" if manifest.layout != "single" else f"a file for {manifest.target}"
        raise ExportError(
            f"'{folder}' holds {files}, which needs {error.name}; install the extra `serve`, or export the "
            f"recipe with target: {DEFAULT_TARGET} and layout: single"
        ) from error
    return open_runner(folder, manifest, **options)
