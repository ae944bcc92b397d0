"""Neural Compressor's PT2E quantization of a whole model, and the cutting of its result into segments."""

import dataclasses
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from ...cost import node_macs
from ...errors import CutError, DynamicExitError, PassError, first_line
from ...graph import Classifier, Cut, Program, Segment, capture, find_cuts, select_cuts, split
from .for_torch import fold_weights

#: Takes an exported module and its calibration function, and returns the quantized module.
Quantize = Callable[[nn.Module, Callable[[nn.Module], None]], nn.Module]


class QuantizedModel(nn.Module):
    """A whole model as Neural Compressor has quantized it; it is always in evaluation mode.

    Attributes:
        body: Neural Compressor's own result.
    """

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body
        for module in self.modules():
            module.training = False

    def train(self, mode: bool = True) -> "QuantizedModel":
        """Do nothing: an exported module raises if its mode is to change."""
        return self

    def forward(self, *inputs: Tensor, **keywords: Tensor) -> Tensor:
        """Return logits (N, C) for the one input, by position or by name."""
        logits: Tensor = self.body(*inputs, *keywords.values())
        return logits


class _Interpreted(nn.Module):
    """Runs a graph node by node, so that a new capture keeps the nodes' notes on the user's modules."""

    def __init__(self, body: fx.GraphModule):
        super().__init__()
        self.body = body
        self.training = False

    def forward(self, *inputs: Tensor) -> Tensor:
        with fx.traceback.preserve_node_meta():
            logits: Tensor = fx.Interpreter(self.body).run(*inputs)
        return logits


def quantize_pt2e(
    name: str,
    model: nn.Module,
    example: Tensor,
    keyword: str | None,
    calls: Sequence[tuple[tuple[Any, ...], Mapping[str, Any]]],
    quantize: Quantize,
) -> QuantizedModel:
    """Export and quantize a model as users of Neural Compressor do, calibrated on the unchanged batches of the calls.

    Args:
        name: Name of the algorithm, for messages.
        model: In float and in evaluation mode, of one input.
        example: Two samples, (2, ...).
        keyword: Name that the model takes its input by; None for by position.
        calls: Positional and keyword arguments of each calibration call.
        quantize: Runs the algorithm.

    Returns:
        A model from (N, ...) to logits (N, C).

    Raises:
        PassError: The model cannot be exported or quantized.
    """
    from neural_compressor.torch.export import export

    batch = {0: torch.export.Dim("batch", min=1)}

    def run(body: nn.Module) -> None:
        for arguments, keywords in calls:
            body(*arguments, *keywords.values())

    try:
        with torch.no_grad():
            classifier = Classifier(model, keywords=[keyword] if keyword else None)
            return QuantizedModel(quantize(export(classifier, (example,), {"inputs": (batch,)}), run))
    except DynamicExitError:
        raise
    except Exception as error:  # Neural Compressor and torch.export may raise anything
        raise PassError(f"'{name}' cannot quantize this model: {first_line(error)}; leave it out") from error


def split_pt2e(quantized: QuantizedModel, program: Program, cuts: Sequence[Cut]) -> list[Segment]:
    """Cut a quantized model where its float form is cut; the segments in sequence answer bit for bit as it does.

    Args:
        quantized: The quantized model, of no use afterwards.
        program: The float form.
        cuts: Some of the cuts of the float form.

    Raises:
        PassError: The quantized model is no graph, or its graph has no such cut.
    """
    if not isinstance(quantized.body, fx.GraphModule):
        raise PassError(f"the quantized model is a {type(quantized.body).__name__}, not a graph; it cannot be cut")
    graph = Classifier(QuantizedModel(_Interpreted(fold_weights(quantized.body))))
    captured = capture(graph, program.example_inputs, rows_mix=True)  # the rows of the float form do not mix
    stacks = dict(captured.stacks)
    for node in reversed(captured.graph_module.graph.nodes):
        if _is_conversion(node) and node.users:  # counts as part of the layer that reads the integers
            stacks[node.name] = stacks[next(iter(node.users)).name]
    captured = dataclasses.replace(
        captured, stacks=stacks, input_names=program.input_names, parametrised=program.parametrised
    )
    known = find_cuts(captured, node_macs(captured.graph_module, captured.example_inputs))
    try:
        return split(captured, select_cuts(known, [cut.name for cut in cuts]))
    except CutError as error:
        raise PassError(f"the quantized model cannot be cut alike: {first_line(error)}") from error


def _is_conversion(node: fx.Node) -> bool:
    """Whether a node quantizes or dequantizes, or takes an item of such a node's output."""
    maker = node.args[0] if node.target is operator.getitem else node
    return isinstance(maker, fx.Node) and maker.op == "call_function" and "quantized_decomposed" in str(maker.target)
