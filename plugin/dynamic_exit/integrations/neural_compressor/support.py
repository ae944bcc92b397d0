"""Refusal of models that are compressed already, or not on the CPU."""

from torch import nn

from ...core.placement import check_on_cpu
from ...errors import PassError
from ...passes.quantization.detect import what_is_quantized
from ...runtime.model import DynamicExitModel
from .in_place import unwrap


def check_given(name: str, model: nn.Module) -> None:
    """Check that a model is one that passes can work on.

    Args:
        name: Name of the pass, for the message.
        model: The given model.

    Raises:
        PassError: It has savers or exits already, or a part is quantized.
        ModelError: It is not on the CPU.
    """
    _refuse_dynamic(name, model)
    _refuse_quantized(model)
    check_on_cpu(model, "the model")


def _refuse_dynamic(name: str, model: nn.Module) -> None:
    if isinstance(unwrap(model), DynamicExitModel):
        raise PassError(f"pass '{name}' got a model that is dynamic already; name all passes in one recipe instead")


def _refuse_quantized(model: nn.Module) -> None:
    # not by Neural Compressor's own flag, which is also set on other models
    what = what_is_quantized(model)
    if what:
        raise PassError(f"the model is quantized already ({what}); give it in float and name all passes at once")
