"""What Optimum's classes offer beside their answers: attributes of sessions, and the calls of torch's modules."""

import html
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import onnxruntime
import torch

from ..artifact.file_runner import FileRunner, Runner
from ..artifact.folder import MODEL_FILE
from ..artifact.inputs import Values
from ..artifact.manifest import Manifest
from ..artifact.reopening import Reopens
from ..artifact.runner import SegmentsRunner
from ..artifact.switch import OperatingPointSwitch
from ..chain.names import FINAL
from ..errors import ExportError, InputError
from ..onnx.session import PartSession
from ..points.operating_point import OperatingPoints
from ..recipe.target_registry import TARGETS
from .options import other_dtype

_OUTPUTS = {"logits": "float32", "exit_index": "int64", "confidence": "float32"}
_ONNX_TYPES = {"float32": "float", "float64": "double"}


def _onnx_type(dtype: str) -> str:
    return f"tensor({_ONNX_TYPES.get(dtype, dtype)})"


def _sessions(runner: Runner) -> list[onnxruntime.InferenceSession]:
    """Return the sessions of a runner; none for other targets than onnxruntime."""
    if isinstance(runner, FileRunner):
        return [runner.session]
    if isinstance(runner, SegmentsRunner):
        found = [part.session for part in runner.model.modules() if isinstance(part, PartSession)]
        return [session for session in found if isinstance(session, onnxruntime.InferenceSession)]
    return []


class ClassifierAttributes(Reopens):
    """Attributes and calls that Optimum's classes and torch's modules have.

    Attributes:
        device: The CPU: inputs and answers are in its memory, whatever the execution provider.
        dtype: float32, the dtype of the answers.
        training: Always False.
        use_io_binding: Always False.
        output_names: Names of the outputs.
    """

    folder: str | Path | None
    input_names: tuple[str, ...]
    output_names = tuple(_OUTPUTS)
    device = torch.device("cpu")
    dtype = torch.float32  # transformers' pipelines cast images to it
    training = use_io_binding = False
    operating_points: OperatingPoints
    stages: tuple[str, ...]
    _manifest: Manifest
    _switch: OperatingPointSwitch
    _warned: set[str]

    def __repr__(self) -> str:
        """Return folder, stages and the current operating point."""
        place = "" if self.folder is None else f"{str(self.folder)!r}, "
        stages = ", ".join((*self.stages, self.operating_points.last_stage or FINAL))
        return f"{type(self).__name__}({place}stages {stages}, at {self._switch.point.name})"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self))}</p>{self.operating_points._repr_html_()}"

    @property
    def runner(self) -> Runner:
        """What runs the model in this process."""
        return self._current_runner()

    @property
    def session(self) -> onnxruntime.InferenceSession | None:
        """The session of onnxruntime; None where there is one file a stage, or another runtime."""
        runner = self.runner
        return runner.session if isinstance(runner, FileRunner) else None

    @property
    def providers(self) -> list[str]:
        """Names of the execution providers in order of preference; none for other runtimes than onnxruntime."""
        return next((session.get_providers() for session in _sessions(self.runner)), [])

    @property
    def provider(self) -> str | None:
        """Name of the first execution provider."""
        return next(iter(self.providers), None)

    @property
    def provider_options(self) -> dict[str, Any]:
        """Options of the execution providers, by name."""
        return next((session.get_provider_options() for session in _sessions(self.runner)), {})

    @property
    def path(self) -> Path | None:
        """The file of the model, or its folder where there is one file a stage; None if it was made in memory."""
        if self.folder is None:
            return None
        return Path(self.folder, MODEL_FILE) if self._manifest.layout == "single" else Path(self.folder)

    @property
    def input_shapes(self) -> dict[str, list[int | str]]:
        """Shapes of the inputs by name, with the batch; a free dimension is its name."""
        return {spec["name"]: ["batch", *spec["shape"]] for spec in self._manifest.inputs}

    @property
    def input_dtypes(self) -> dict[str, str]:
        """Types of the inputs by name, as onnxruntime names them, such as ``tensor(int64)``."""
        return {spec["name"]: _onnx_type(spec["dtype"]) for spec in self._manifest.inputs}

    @property
    def output_shapes(self) -> dict[str, list[int | str]]:
        """Shapes of the outputs by name, with the batch."""
        return {name: ["batch", *([len(self._manifest.labels)] * (name == "logits"))] for name in _OUTPUTS}

    @property
    def output_dtypes(self) -> dict[str, str]:
        """Types of the outputs by name, as onnxruntime names them."""
        return {name: _onnx_type(dtype) for name, dtype in _OUTPUTS.items()}

    def can_generate(self) -> bool:
        """Return False, for transformers' pipelines."""
        return False

    def eval(self) -> Self:
        """Return the model, which is always in evaluation mode."""
        return self

    def train(self, mode: bool = True) -> Self:
        """Accept False only.

        Raises:
            ExportError: `mode` is True.
        """
        if mode:
            raise ExportError("a dynamic model cannot be trained; train its backbone, and run the recipe anew")
        return self

    def to(self, *places: object, device: object = None, dtype: object = None, **further: object) -> Self:
        """Accept the CPU only; the execution provider is chosen when loading, the dtypes are those of the export.

        Args:
            *places: A device, a dtype or a tensor that has both, as `torch.nn.Module.to` takes them.
            device: A device of torch or its name.
            dtype: A dtype; any other than float32 is ignored with a warning.
            **further: Further arguments of `torch.nn.Module.to`, which are ignored.

        Returns:
            The model.

        Raises:
            InputError: Another device than the CPU, or what is neither a device nor a dtype.
        """
        for place in places:
            if isinstance(place, torch.dtype):
                dtype = place
            elif isinstance(place, torch.Tensor):
                device, dtype = place.device, place.dtype
            elif not isinstance(place, bool):  # a third one is `non_blocking`
                device = place
        if device is not None and _kind_of_device(device) != "cpu":
            takes_provider = "provider" in TARGETS.find(self._manifest.target).loading
            advice = "load the model with provider=" if takes_provider else "it runs on the CPU"
            raise InputError(
                f"device '{device}' cannot be chosen here; {advice}, and make a pipeline with device='cpu'"
            )
        if dtype is not None and (other := other_dtype(dtype)) is not None:
            self._warn_once(f"{other} changes nothing: the model computes as it was exported", stacklevel=2)
        return self

    def _warn_once(self, message: str, stacklevel: int) -> None:
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(message, stacklevel=stacklevel + 1)


def _kind_of_device(device: object) -> str:
    if device == -1:  # as pipelines name the CPU
        return "cpu"
    try:
        return torch.device(device).type  # type: ignore[call-overload]  # a wrong type is refused
    except (RuntimeError, TypeError) as error:
        raise InputError(f"'{device}' is no device of torch; leave it out, the model is on the CPU") from error


#: What tokenizers, processors and trainers give besides the inputs of a model, and what is asked of models in torch.
EXTRAS = frozenset(
    {
        "labels",
        "length",
        "num_truncated_tokens",
        "offset_mapping",
        "output_attentions",
        "output_hidden_states",
        "overflow_to_sample_mapping",
        "overflowing_tokens",
        "special_tokens_mask",
    }
)


def split_extras(inputs: Mapping[str, Values], names: Sequence[str]) -> tuple[dict[str, Values], list[str]]:
    """Return the inputs of a model that takes `names` without extras, and the names of extras that are not False."""
    kept = {name: value for name, value in inputs.items() if name in names or name not in EXTRAS}
    return kept, [name for name, value in inputs.items() if name not in kept and not _is_false(value)]


def _is_false(value: object) -> bool:
    return isinstance(value, bool) and not value
