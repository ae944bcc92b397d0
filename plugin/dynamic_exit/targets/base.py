"""What differs between targets: how stages ship, and how those in use are put together."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import onnx

from ..artifact.layout import write_model
from ..chain.operating_point import OperatingPoints
from ..core.cache import open_cache
from ..core.logging import silenced
from ..graph.backbone import Backbone
from ..onnx.session import open_session
from ..onnx.verification import Agreement
from ..passes.quantization import torch_options
from ..runtime.stages import StageSet
from ..sources.run_inputs import RunInputs
from .float_twin import check_twin, keep_twin
from .onnxruntime import OnnxRuntimeTarget, export_whole
from .precision import choose_numerics
from .torch import TorchModel, TorchTarget
from .verification import File, stitch_file, verify


class Model(Protocol):
    """The stages in use, put together.

    Attributes:
        files: ``static`` (the backbone alone, in float) and ``shipped``, each with a `session` and its `size` in bytes.
    """

    files: Mapping[str, Any]

    def write(self, folder: Path) -> dict[str, Any]:
        """Write what holds the model, and return what the configuration says of it."""

    def verify(self, folder: Path, written: dict[str, Any]) -> dict[str, Agreement]:
        """Demand that it answers like the model in memory, on every test sample, at every operating point.

        Raises:
            VerificationError: It does not.
        """


def create_target(run_inputs: RunInputs, backbone: Backbone) -> tuple[OnnxRuntimeTarget, list[dict[str, Any]]]:
    """Return what ships stages for the recipe's target, and what was measured to choose a quantization.

    Args:
        run_inputs: The recipe and calibration samples.
        backbone: Cut.
    """
    recipe = run_inputs.recipe
    common = {"threads": recipe.dynamic_exit.tuning.threads, "dims": backbone.dims}
    inputs = run_inputs.splits["calibration"].inputs
    if recipe.export.target == "torch":
        return TorchTarget(torch_options(recipe.quantization), inputs, recipe.export.compile, **common), []
    int8, numerics = choose_numerics(run_inputs, backbone)
    return OnnxRuntimeTarget(int8, inputs, **common), numerics


def assemble(
    stages: StageSet, points: OperatingPoints, run_inputs: RunInputs, dims: Mapping[str, dict[int, str]]
) -> Model:
    """Put the stages in use together for the recipe's target.

    Args:
        stages: Those that some operating point uses.
        points: The operating points.
        run_inputs: The recipe, the backbone and the samples.
        dims: Free dimensions of inputs besides the batch: index -> name.
    """
    kind = TorchModel if run_inputs.recipe.export.target == "torch" else OnnxModel
    return kind(stages, points, run_inputs, dims)


class OnnxModel:
    """One ONNX file, or one a stage; as `Model` says."""

    def __init__(
        self,
        stages: StageSet,
        points: OperatingPoints,
        run_inputs: RunInputs,
        dims: Mapping[str, dict[int, str]],
    ):
        self.stages, self.points, self.run_inputs = stages, points, run_inputs
        tuning = run_inputs.recipe.dynamic_exit.tuning
        self.default = points.points[tuning.default_goal]
        static = export_whole(run_inputs.backbone, run_inputs.example, dims).proto
        self.files = {
            "static": File(static, open_session(static, threads=tuning.threads)),
            "float": stitch_file(stages, "float_part", points, self.default, run_inputs),
            "shipped": stitch_file(stages, "part", points, self.default, run_inputs),
        }

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the model's files."""
        model, layout = self.files["shipped"].model, self.run_inputs.recipe.export.layout
        inputs = [_input(value) for value in model.graph.input if value.name in self.stages.input_names]
        written = write_model(folder, self.stages, model, layout, self.default.name)
        keeping = self.run_inputs.recipe.dynamic_exit.cache
        with silenced():  # a cache that cannot be written was reported when the run began
            keep_twin(self.stages, folder, written["checksums"], open_cache(keeping.directory, keeping.enabled))
        twin = check_twin(self.stages, self.run_inputs.splits["calibration"].inputs)
        return {"inputs": inputs, **written, "float_twin": twin}

    def verify(self, folder: Path, written: dict[str, Any]) -> dict[str, Agreement]:
        """Hold the float file against the torch model, and the one that ships against its single stages."""
        return verify(self.stages, self.files, self.points, self.run_inputs)


def _input(value: onnx.ValueInfoProto) -> dict[str, Any]:
    """Describe one input of a file, without its batch; a free dimension is its name."""
    kind = value.type.tensor_type
    shape = [side.dim_value if side.HasField("dim_value") else side.dim_param for side in kind.shape.dim[1:]]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
    return {"name": value.name, "dtype": str(dtype), "shape": shape}
