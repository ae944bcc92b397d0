"""Weight-only quantized layers that torch.export can write: integers, scales and zero points as buffers."""

import copy
from typing import Protocol, TypedDict, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ...errors import PassError

aten = torch.ops.aten


class UnpackedWeights(TypedDict):
    """Integers (out, in), and scales and zero points (out, groups) of a linear layer."""

    int_weight: Tensor
    scales: Tensor
    zp: Tensor | None


class WeightOnlyLinear(Protocol):
    """What is used of Neural Compressor's ``INCWeightOnlyLinear``."""

    in_features: int
    group_size: int
    bias: Tensor | None

    def unpack(self) -> UnpackedWeights:
        """Return the integers, scales and zero points."""

    def recover(self) -> Tensor:
        """Return the weights in float (out, in)."""


class PackedLinear(nn.Module):
    """A linear layer whose weights are integers in groups, with the outputs of Neural Compressor's own layer.

    Args:
        layer: The layer of Neural Compressor.

    Raises:
        PassError: The integers stand for other weights than the layer uses.
    """

    integers: Tensor
    scales: Tensor
    zeros: Tensor
    group: Tensor
    bias: Tensor | None

    def __init__(self, layer: WeightOnlyLinear):
        super().__init__()
        unpacked = layer.unpack()
        integers, scales, zeros = unpacked["int_weight"], unpacked["scales"], unpacked["zp"]
        group = torch.arange(layer.in_features) // layer.group_size
        self.register_buffer("integers", _narrow(integers))
        self.register_buffer("scales", scales)
        self.register_buffer("zeros", _narrow(torch.zeros_like(scales) if zeros is None else zeros))
        self.register_buffer("group", group.to(torch.int32))
        self.register_buffer("bias", None if layer.bias is None else layer.bias.float())
        self.training = False
        if not torch.equal(self.weight, layer.recover().float()):
            raise PassError(
                "Neural Compressor's 'rtn' makes integers that do not give its own weights with these parameters; "
                "leave use_sym and group_dim at their defaults"
            )

    @property
    def weight(self) -> Tensor:
        """The weights, float32 (out, in)."""
        group = self.group.long()
        steps = self.integers.to(torch.int32) - self.zeros.to(torch.int32)[:, group]
        return (steps * self.scales[:, group]).float()

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        return F.linear(inputs, self.weight, self.bias)


def _narrow(values: Tensor) -> Tensor:
    """Return integers as 8 bits if they fit, else as 16."""
    low, high = int(values.min()), int(values.max())
    if low >= 0 and high < 256:
        return values.to(torch.uint8)
    return values.to(torch.int8 if low >= -128 and high < 128 else torch.int16)


def pack_linears(body: fx.GraphModule, config: object) -> fx.GraphModule:
    """Return a copy of a graph whose linear layers have weights quantized by Neural Compressor.

    Args:
        body: A captured graph.
        config: Neural Compressor's config of a weight-only algorithm without calibration.
    """
    from neural_compressor.torch.quantization import quantize

    made = quantize(_with_layers(body), config)
    for name, module in list(made.named_modules()):
        if type(module).__name__ == "INCWeightOnlyLinear":
            made.set_submodule(name, PackedLinear(cast(WeightOnlyLinear, module)))
    for module in made.modules():
        module.training = False
    return made


def _with_layers(body: fx.GraphModule) -> fx.GraphModule:
    """Return a copy with layers, which weight-only algorithms look for, instead of linear operators."""
    body = copy.deepcopy(body)
    tensors = {**dict(body.named_parameters()), **dict(body.named_buffers())}
    for node in list(body.graph.nodes):
        constants = [each for each in node.args[1:] if each is not None]
        if node.target is not aten.linear.default or any(each.op != "get_attr" for each in constants):
            continue
        weight, *bias = (tensors[each.target].detach().clone() for each in constants)
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bool(bias), device="meta")
        layer.weight = nn.Parameter(weight, requires_grad=False)
        if bias:
            layer.bias = nn.Parameter(bias[0], requires_grad=False)
        name = f"packed_{node.name}"
        body.add_submodule(name, layer)
        node.op, node.target, node.args, node.kwargs = "call_module", name, node.args[:1], {}
    body.graph.eliminate_dead_code()
    return fx.GraphModule(body, body.graph)
