"""The backbone in pieces, and Neural Compressor's PT2E result: quantized whole, then cut like its float form."""

import dataclasses
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from ...chain.names import HIDDEN
from ...cost import node_macs
from ...errors import CutError, DynamicExitError, PassError, first_line
from ...graph import Classifier, Cut, Program, Segment, capture, find_cuts, select_cuts, split
from ...passes.quantization.for_torch import fold_weights
from .calibration import CalibrationCalls

#: Takes an exported module and its calibration function, and returns it quantized.
Quantize = Callable[[nn.Module, Callable[[nn.Module], None]], fx.GraphModule]


class SegmentSequence(nn.Module):
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
            hidden = segment(*(hidden if name == HIDDEN else given for name in segment.input_names))
        return hidden


class QuantizedModel(nn.Module):
    """A whole model as Neural Compressor has quantized it; it has one mode, whatever is asked for.

    Attributes:
        body: Neural Compressor's own result.
    """

    def __init__(self, body: fx.GraphModule):
        super().__init__()
        self.body = body
        for module in self.modules():
            module.training = False

    def train(self, mode: bool = True) -> "QuantizedModel":
        """Stay as it is: an exported body refuses to change its mode."""
        return self

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """Return logits (N, C) for the one input, by position or by name."""
        return self.body(*inputs, *named.values())


class _NodeByNode(nn.Module):
    """Runs a graph so that capturing it again keeps what its nodes say of the user's modules."""

    def __init__(self, body: fx.GraphModule):
        super().__init__()
        self.body = body
        self.training = False

    def forward(self, *inputs: Tensor) -> Tensor:
        with fx.traceback.preserve_node_meta():
            return fx.Interpreter(self.body).run(*inputs)


def quantize_pt2e(
    name: str, model: nn.Module, calls: CalibrationCalls | None, example_inputs: Any, quantize: Quantize
) -> QuantizedModel:
    """Export and quantize a model as Neural Compressor's users do, calibrated on the very batches of the calls.

    Args:
        name: Of the algorithm, for messages.
        model: In float, in evaluation mode; of one input.
        calls: What it is calibrated on; None where the shape of the example inputs is enough.
        example_inputs: A tensor, or one in a tuple; not looked at where there are calls.
        quantize: What the algorithm does.

    Returns:
        Maps (N, ...) to logits (N, C).

    Raises:
        PassError: The model cannot be exported or quantized.
    """
    from neural_compressor.torch.export import export

    if calls is None:
        given = (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)
        calls = CalibrationCalls(((given, {}),) * 4)
    inputs, keyword = calls.only_input(name)
    batch = {0: torch.export.Dim("batch", min=1)}

    def run(body: nn.Module) -> None:
        for arguments, named in calls.made:
            body(*arguments, *named.values())

    try:
        with torch.no_grad():
            classifier = Classifier(model, keywords=keyword and [keyword])
            return QuantizedModel(quantize(export(classifier, (inputs[:2],), {"inputs": (batch,)}), run))
    except DynamicExitError:
        raise
    except Exception as error:  # Neural Compressor and torch.export raise anything
        raise PassError(f"'{name}' cannot quantize this model: {first_line(error)}; leave it out") from error


def split_pt2e(whole: QuantizedModel, program: Program, cuts: Sequence[Cut]) -> list[Segment]:
    """Cut a quantized model where its float form is cut; in sequence the segments answer bit for bit as it does.

    Args:
        whole: The quantized model, of no use afterwards.
        program: Its float form.
        cuts: Some of the float form's.

    Raises:
        PassError: The quantized graph has no such cut.
    """
    graph = Classifier(QuantizedModel(_NodeByNode(fold_weights(whole.body))))
    captured = capture(graph, program.example_inputs, rows_mix=True)  # the float form's do not
    stacks = dict(captured.stacks)
    for node in reversed(captured.graph_module.graph.nodes):
        if _converts(node) and node.users:  # as if the layer that reads the integers had made them
            stacks[node.name] = stacks[next(iter(node.users)).name]
    alike = {"input_names": program.input_names, "parametrised": program.parametrised}
    captured = dataclasses.replace(captured, stacks=stacks, **alike)
    known = find_cuts(captured, node_macs(captured, captured.example_inputs))
    try:
        return split(captured, select_cuts(known, [cut.name for cut in cuts]))
    except CutError as error:
        raise PassError(f"the quantized model cannot be cut alike: {first_line(error)}") from error


def _converts(node: fx.Node) -> bool:
    maker = node.args[0] if node.target is operator.getitem else node
    return maker.op == "call_function" and "quantized_decomposed" in str(maker.target)
