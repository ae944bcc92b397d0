"""Tells whether a model holds quantized parts, whatever its flags say."""

from torch import fx, nn

from ..errors import PassError

_PLACES = ("neural_compressor.torch.algorithms", "torch.ao.nn.", "torchao.", "bitsandbytes.")


def what_is_quantized(model: nn.Module) -> str | None:
    """Return the first part of a model that is quantized, or None."""
    for name, module in model.named_modules():
        what = None
        if type(module).__module__.startswith(_PLACES):
            what = type(module).__name__
        elif isinstance(module, fx.GraphModule):
            what = next((str(node.target) for node in module.graph.nodes if "quantize_per_" in str(node.target)), None)
        if what:
            return f"{what} in '{name}'" if name else what
    return None


def refuse_quantized(model: nn.Module) -> None:
    """Refuse a model that is quantized already; Neural Compressor's own flag says so of others, too.

    Raises:
        PassError: Some part of it is quantized.
    """
    what = what_is_quantized(model)
    if what:
        raise PassError(f"the model is quantized already ({what}); give it in float and name all passes at once")
