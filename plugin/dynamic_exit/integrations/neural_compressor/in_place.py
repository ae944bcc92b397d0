"""In-place compression: the object that the user holds answers as the compressed model does."""

from torch import nn

from ...passes.quantization.pt2e import QuantizedModel
from ...runtime.model import DynamicExitModel

_NAME = "compressed"


def replace_in_place(model: nn.Module, compressed: nn.Module) -> nn.Module:
    """Make a module answer as a compressed one, which it then holds or is.

    If both are of one class, the given module takes over the state of the compressed one. Otherwise it keeps its class,
    drops what it held, and forwards every call to the compressed model, which is its only submodule, ``compressed``.

    Args:
        model: The module that the user holds.
        compressed: The result; of no separate use afterwards if it has the class of `model`.

    Returns:
        `model` if it has become the result, else `compressed`.
    """
    if type(model) is type(compressed):
        model.__dict__ = compressed.__dict__
        return model
    model.__dict__ = nn.Module().__dict__
    model.training = compressed.training
    model.add_module(_NAME, compressed)
    model.forward = compressed.__call__
    return compressed


def unwrap(model: nn.Module) -> nn.Module:
    """Return the compressed model that a module holds since an in-place compression, else the module itself."""
    held = getattr(model, _NAME, None)
    return held if isinstance(held, DynamicExitModel | QuantizedModel) else model
