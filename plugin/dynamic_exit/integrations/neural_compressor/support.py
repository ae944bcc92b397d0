"""Refusal of models that are compressed already."""

from torch import nn

from ...errors import PassError
from ...passes.quantization.detect import what_is_quantized
from ...runtime.model import DynamicExitModel
from .in_place import unwrap


def refuse_dynamic(name: str, model: nn.Module) -> None:
    """Check that a model has no savers or exits yet.

    Args:
        name: Name of the pass, for the message.
        model: The given model.

    Raises:
        PassError: It has.
    """
    if isinstance(unwrap(model), DynamicExitModel):
        raise PassError(f"pass '{name}' got a model that is dynamic already; name all passes in one recipe instead")


def refuse_quantized(model: nn.Module) -> None:
    """Check that no part of a model is quantized; Neural Compressor's own flag is also set on other models.

    Raises:
        PassError: A part is quantized.
    """
    what = what_is_quantized(model)
    if what:
        raise PassError(f"the model is quantized already ({what}); give it in float and name all passes at once")
