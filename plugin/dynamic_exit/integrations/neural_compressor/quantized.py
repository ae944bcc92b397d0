"""Refuses models that are quantized already."""

from torch import nn

from ...errors import PassError
from ...passes.quantization.detect import what_is_quantized

__all__ = ["refuse_quantized", "what_is_quantized"]


def refuse_quantized(model: nn.Module) -> None:
    """Refuse a model that is quantized already; Neural Compressor's own flag says so of others, too.

    Raises:
        PassError: Some part of it is quantized.
    """
    what = what_is_quantized(model)
    if what:
        raise PassError(f"the model is quantized already ({what}); give it in float and name all passes at once")
