"""The target openvino: the files of the target onnxruntime, run by Intel's OpenVINO."""

import threading
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import onnx
from pydantic import model_validator

from ...artifact.file_runner import Answer, Runner
from ...artifact.folder import MODEL_FILE
from ...artifact.manifest import Manifest
from ...artifact.runner import SegmentsRunner, read_onnx_part
from ...errors import ExportError, InputError
from ...onnx.external_data import for_onnx
from ...onnx.links import without_links
from ...onnx.session import PartSession
from ...passes.stanza import refuse
from ...recipe.target_registry import DEFAULT_TARGET
from .onnxruntime import OnnxRuntime, OnnxRuntimeExport

if TYPE_CHECKING:
    from ...data.run_inputs import RunInputs
    from ...graph.backbone import Backbone
    from ..openvino import OpenVinoTarget
    from ..precision import QuantizationTrial

_MISSING = "openvino, which is not installed; install the extra `openvino`"
# devices that stand for others
_VIRTUAL = ("AUTO", "BATCH", "HETERO", "MULTI")


class OpenVinoExport(OnnxRuntimeExport):
    """What is written for OpenVINO, and where."""

    @model_validator(mode="before")
    @classmethod
    def _add_defaults(cls, values: Any) -> Any:
        return {"layout": "segments", **values} if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _check_installed(self) -> Self:
        if find_spec("openvino") is None:
            raise refuse(f"holds `target: {self.target}`, which needs {_MISSING}")
        return self


class OpenVino(OnnxRuntime):
    """ONNX files for OpenVINO, quantized as those for onnxruntime: one a stage, or in float one for all."""

    stanza, tag = OpenVinoExport, "openvino"
    loading, static_search, compared_with = frozenset({"device"}), False, (DEFAULT_TARGET,)

    def create(self, run_inputs: "RunInputs", backbone: "Backbone") -> "tuple[OpenVinoTarget, list[QuantizationTrial]]":
        """Create the target, with the best of the quantizations that the recipe names."""
        from ..onnxruntime import recipe_opset
        from ..openvino import OpenVinoTarget, open_part
        from ..precision import choose_numerics

        layout = run_inputs.recipe.export.layout
        if run_inputs.recipe.quantization and layout == "single":
            raise ExportError(
                "OpenVINO answers wrongly in 8 bits inside the `If`s of `export.layout: single`; leave out `layout` "
                "or `quantization`"
            )
        quantization, trials = choose_numerics(run_inputs, backbone, open_part)
        inputs, threads = run_inputs.splits["calibration"].inputs, run_inputs.recipe.dynamic_exit.tuning.threads
        opset, cache = recipe_opset(run_inputs), run_inputs.recipe.dynamic_exit.cache.open()
        return OpenVinoTarget(quantization, inputs, threads, backbone.dims, opset, cache), trials

    def open(self, folder: Path, manifest: Manifest, options: Mapping[str, Any]) -> Runner:
        """Open the file or the files; the option ``device`` is OpenVINO's name of one, such as ``CPU`` or ``GPU``."""
        device = options.get("device", "CPU")
        if manifest.layout == "single":
            return OpenVinoRunner(OpenVinoSession(folder / MODEL_FILE, device=device), manifest)
        return SegmentsRunner(folder, manifest, partial(load_part, device, None))

    def open_model(self, model: onnx.ModelProto, threads: int | None) -> "OpenVinoSession":
        """Return what runs an ONNX model on the CPU."""
        with for_onnx(model) as form:
            content = Path(form) if isinstance(form, str) else form.SerializeToString()
            return OpenVinoSession(content, threads)

    def runtime(self) -> str:
        """Return ``openvino`` and its version."""
        return f"openvino {_openvino().__version__.partition('-')[0]}"


def load_part(device: str, threads: int | None, path: Path, input_names: Sequence[str]) -> PartSession:
    """Open the ONNX file of a part in OpenVINO.

    Raises:
        ExportError: It cannot be read, or OpenVINO refuses it.
    """
    return PartSession(read_onnx_part(path, input_names), session=OpenVinoSession(path, threads, device))


class OpenVinoRunner:
    """Runs the one file of a folder; a `Runner`.

    Args:
        session: The file's session.
        manifest: Manifest of its folder.
    """

    def __init__(self, session: "OpenVinoSession", manifest: Manifest):
        assert manifest.chain is not None, "folders of older versions are for other targets"
        self.session, self.manifest, self.stages = session, manifest, manifest.stages
        self.input_names = manifest.chain.inputs

    def run(self, feeds: Mapping[str, np.ndarray], thresholds: np.ndarray) -> Answer:
        """Classify a batch, as `Runner.run`."""
        outputs = ["logits", "exit_index", "confidence"]
        logits, exit_index, confidence = self.session.run(outputs, {**feeds, "thresholds": thresholds})
        return logits, exit_index, confidence


class OpenVinoSession:
    """An ONNX model that OpenVINO runs, with the calls of a session of onnxruntime; safe from any thread.

    Numbers are float32 or as quantized in the file: none are rounded further, whatever a device would prefer.

    Args:
        model: The bytes of a model, or its file. Thresholds that are an input with a default become an input.
        threads: Threads within an operator; None leaves it to OpenVINO.
        device: OpenVINO's name of a device.

    Raises:
        ExportError: OpenVINO is not installed, or refuses the model.
        InputError: The device is not on this machine.
    """

    def __init__(self, model: bytes | Path, threads: int | None = None, device: str = "CPU"):
        core = _openvino().Core()
        _check_device(device, core.available_devices)
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None and device == "CPU":
            # a pinned thread would wait for its core while others are idle
            options |= {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
        try:
            self._model = core.compile_model(_read(core, model), device, options)
        except RuntimeError as error:
            raise ExportError(f"OpenVINO refuses the model: {_last_line(error)}") from error
        self._requests = threading.local()
        self._inputs = [
            SimpleNamespace(
                name=each.node.friendly_name,
                shape=[f"free{place}" if side.is_dynamic else side.get_length() for place, side in enumerate(shape)],
            )
            for each in self._model.inputs
            for shape in [each.partial_shape]
        ]

    def get_inputs(self) -> list[SimpleNamespace]:
        """Return what it takes: objects with a ``name`` and a ``shape``, in which free dimensions are names."""
        return self._inputs

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Return the named outputs, all of them for None."""
        if not hasattr(self._requests, "own"):
            self._requests.own = self._model.create_infer_request()
        values = {place: feeds[each.name] for place, each in enumerate(self._inputs)}
        found = self._requests.own.infer(values, share_inputs=True)
        return [found[place] for place in (range(len(found)) if names is None else names)]


def _openvino() -> Any:
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise ExportError(f"a folder for openvino needs {_MISSING}") from error
    return openvino


def _check_device(device: str, available: Sequence[str]) -> None:
    name = device.partition(":")[0]
    if name not in (*available, *_VIRTUAL) and name.partition(".")[0] not in available:
        raise InputError(f"OpenVINO has no device '{device}' on this machine; it has {', '.join(available)}")


def _read(core: Any, model: bytes | Path) -> Any:
    """Read a model, whose thresholds with a default are a constant for OpenVINO, and make them an input."""
    if isinstance(model, bytes):
        graph = core.read_model(model)
    else:
        with without_links(model) as path:
            graph = core.read_model(path)
    constants = (node for node in graph.get_ops() if node.get_type_name() == "Constant")
    found = next((node for node in constants if "thresholds" in node.output(0).names), None)
    if found is not None:
        from openvino import opset13

        given = opset13.parameter(found.get_output_shape(0), np.float32, name="thresholds")
        found.output(0).replace(given.output(0))
        graph.add_parameters([given])
    return graph


def _last_line(error: Exception) -> str:
    """Return the line that says what is wrong: those before it name files of OpenVINO."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)


KIND = OpenVino()
