"""Creates the target that a recipe asks for."""

from ..graph.backbone import Backbone
from ..passes.quantization import torch_options
from ..sources.run_inputs import RunInputs
from .base import Target
from .onnxruntime import OnnxRuntimeTarget
from .precision import QuantizationTrial, choose_numerics
from .torch import TorchTarget


def create_target(run_inputs: RunInputs, backbone: Backbone) -> tuple[Target, list[QuantizationTrial]]:
    """Create the target that a recipe asks for.

    Args:
        run_inputs: The recipe and calibration samples.
        backbone: The cut backbone.

    Returns:
        The target, and what was measured to choose its quantization: nothing if there was nothing to choose.

    Raises:
        ExportError: The backbone cannot be exported.
        PassError: The quantization cannot be had.
    """
    recipe = run_inputs.recipe
    threads, inputs = recipe.dynamic_exit.tuning.threads, run_inputs.splits["calibration"].inputs
    if recipe.export.target == "torch":
        options = torch_options(recipe.quantization)
        return TorchTarget(options, inputs, recipe.export.compile, threads, backbone.dims), []
    quantization, trials = choose_numerics(run_inputs, backbone)
    return OnnxRuntimeTarget(quantization, inputs, threads, backbone.dims), trials
