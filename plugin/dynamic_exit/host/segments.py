"""The backbone in pieces, and Neural Compressor's static quantization of each piece on what it really gets."""

import copy
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ..errors import DynamicExitError, PassError, first_line
from ..graph import Segment
from ..runtime.batches import batches, run_in_batches
from ..runtime.checks import HIDDEN
from .quantized import what_is_quantized

aten = torch.ops.aten
# operators of a captured graph, the functions with the same arguments, and what tells those apart
_FUNCTIONS = {
    aten.conv2d.default: (F.conv2d, {}),
    aten.linear.default: (F.linear, {}),
    aten.relu.default: (F.relu, {}),
    aten.relu_.default: (F.relu, {"inplace": True}),
    aten.add.Tensor: (torch.add, {}),
}
# samples at a time while ranges are found
_BATCH_SIZE = 64


class Chain(nn.Module):
    """Segments one after the other: the whole backbone, of one input."""

    def __init__(self, segments: Sequence[nn.Module]):
        super().__init__()
        self.segments = nn.ModuleList(segments)
        self.training = False

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """Return logits (N, C) for the one input, by position or by name."""
        (given,) = (*inputs, *named.values())
        hidden = given
        for segment in self.segments:
            hidden = segment(*(hidden if name == HIDDEN else given for name in segment.takes))
        return hidden


class QuantizedSegment(nn.Module):
    """A segment whose body Neural Compressor has quantized; it has one mode, whatever is asked for."""

    def __init__(self, segment: Segment, body: nn.Module):
        super().__init__()
        self.body = body
        self.takes, self.gives, self.classes = segment.takes, segment.gives, segment.classes
        self.dynamic_dims, self.example_inputs = segment.dynamic_dims, segment.example_inputs
        self.training = False

    def train(self, mode: bool = True) -> "QuantizedSegment":
        """Stay as it is: an exported body refuses to change its mode."""
        return self

    def forward(self, *tensors: Tensor) -> Tensor:
        """Run the quantized body."""
        return self.body(*tensors)


def quantize_segments(
    segments: Sequence[Segment], inputs: Tensor, quantize: Callable[[nn.Module, Callable], nn.Module]
) -> list[QuantizedSegment]:
    """Quantize segments, each calibrated on what the float segments before it give.

    Args:
        segments: In float, of one input.
        inputs: Calibration samples (N, ...).
        quantize: Takes an exported module and its calibration function.

    Raises:
        PassError: A segment cannot be exported or quantized, or nothing in any of them was.
    """
    from neural_compressor.torch.export import export

    quantized, hidden = [], inputs
    for index, segment in enumerate(segments):
        feeds = [hidden if name == HIDDEN else inputs for name in segment.takes]

        def run(body: nn.Module, feeds=feeds) -> None:
            for batch in batches([feed.numpy() for feed in feeds], _BATCH_SIZE):
                body(*map(torch.from_numpy, batch))

        shapes = tuple({0: torch.export.Dim("batch")} for _ in segment.takes)
        try:
            with torch.no_grad():
                body = export(_in_functions(segment.body), segment.example_inputs, dynamic_shapes=shapes)
                quantized.append(QuantizedSegment(segment, quantize(body, run)))
        except DynamicExitError:
            raise
        except Exception as error:  # Neural Compressor and torch.export raise anything
            where = f"segment {index + 1} of {len(segments)}"
            raise PassError(f"static_quant cannot quantize {where}: {first_line(error)}; leave it out") from error
        hidden = run_in_batches(segment, feeds)
    if not any(what_is_quantized(segment) for segment in quantized):
        raise PassError("static_quant found nothing to quantize in this model; leave it out")
    return quantized


def _in_functions(body: fx.GraphModule) -> fx.GraphModule:
    """Return a copy that calls torch's functions: the quantizer looks for them, and finds nothing in operators."""
    body = copy.deepcopy(body)
    for node in body.graph.nodes:
        if node.target in _FUNCTIONS:
            node.target, named = _FUNCTIONS[node.target]
            node.kwargs = {**node.kwargs, **named}
    body.recompile()
    return body
