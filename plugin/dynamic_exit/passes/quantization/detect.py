"""Detection of quantized modules in a model, independent of its flags."""

from torch import fx, nn

_QUANTIZED_PACKAGES = ("neural_compressor.torch.algorithms", "torch.ao.nn.", "torchao.", "bitsandbytes.")


def what_is_quantized(model: nn.Module) -> str | None:
    """Return the type and name of the first quantized module of a model, or None."""
    for name, module in model.named_modules():
        what = None
        if type(module).__module__.startswith(_QUANTIZED_PACKAGES):
            what = type(module).__name__
        elif isinstance(module, fx.GraphModule):
            what = next((str(node.target) for node in module.graph.nodes if "quantize_per_" in str(node.target)), None)
        if what:
            return f"{what} in '{name}'" if name else what
    return None
