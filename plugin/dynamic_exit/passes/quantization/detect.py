"""Tells whether a model holds quantized parts, whatever its flags say."""

from torch import fx, nn

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
