"""The target onnxruntime: one ONNX file, or one a stage."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from ...onnx.opset import NEWEST_OPSET, OLDEST_OPSET, OPSET
from ...passes.stanza import refuse
from ...recipe.export import Export
from ...recipe.target_registry import TargetKind

if TYPE_CHECKING:
    from ...artifact.file_runner import Runner
    from ...artifact.manifest import Manifest
    from ...data.run_inputs import RunInputs
    from ...graph.backbone import Backbone
    from ..onnxruntime import OnnxRuntimeTarget
    from ..precision import QuantizationTrial


class OnnxRuntimeExport(Export):
    """What is written for onnxruntime, and where."""

    opset: int = Field(
        OPSET,
        ge=OLDEST_OPSET,
        le=NEWEST_OPSET,
        description="version of ONNX's operators; older runtimes need an older one, which not every model can be "
        "written with",
    )

    reduce_range: bool | None = Field(
        None,
        description="8-bit weights use 7 bits, as products of 8 bits overflow on processors without VNNI; null: where "
        "this processor has none",
    )

    @model_validator(mode="after")
    def _check_format(self) -> Self:
        if self.format != "onnx":
            raise refuse(f"holds `format: {self.format}`, but `target: {self.target}` has onnx; leave `format` out")
        if self.compile:
            raise refuse(f"holds `compile`, which is for `target: torch`, not for `target: {self.target}`; remove it")
        return self


class OnnxRuntime(TargetKind):
    """ONNX files for onnxruntime, quantized with its tools."""

    stanza, tag = OnnxRuntimeExport, "onnx"
    loading, static_search = frozenset({"provider", "session_options"}), True

    def check_quantization(self, stanza: Mapping[str, Any] | None) -> None:
        """Refuse algorithms that do not give 8-bit ONNX."""
        from ...passes.quantization import int8_options

        int8_options(stanza)

    def create(
        self, run_inputs: "RunInputs", backbone: "Backbone"
    ) -> "tuple[OnnxRuntimeTarget, list[QuantizationTrial]]":
        """Create the target, with the best of the quantizations that the recipe names."""
        from ..onnxruntime import OnnxRuntimeTarget, recipe_opset
        from ..precision import choose_numerics

        quantization, trials = choose_numerics(run_inputs, backbone)
        inputs, threads = run_inputs.splits["calibration"].inputs, run_inputs.recipe.dynamic_exit.tuning.threads
        opset, cache = recipe_opset(run_inputs), run_inputs.recipe.dynamic_exit.cache.open()
        return OnnxRuntimeTarget(quantization, inputs, threads, backbone.dims, opset, cache), trials

    def open(self, folder: Path, manifest: "Manifest", options: Mapping[str, Any]) -> "Runner":
        """Open the file or the files.

        Options are ``session_options`` and ``provider``: the name of an execution provider, or pairs of names and
        their options in order of preference.
        """
        from ...artifact.file_runner import FileRunner
        from ...artifact.folder import MODEL_FILE
        from ...artifact.runner import SegmentsRunner, load_onnx_part
        from ...onnx.inference import CPU
        from ...onnx.session import open_session

        given, session_options = options.get("provider", CPU), options.get("session_options")
        providers = [given] if isinstance(given, str) else given
        if manifest.layout == "single":
            session = open_session(str(folder / MODEL_FILE), providers=providers, options=session_options)
            return FileRunner(session, manifest)
        return SegmentsRunner(folder, manifest, partial(load_onnx_part, providers, session_options))

    def runtime(self) -> str:
        """Return ``onnxruntime`` and its version."""
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__}"


KIND = OnnxRuntime()
