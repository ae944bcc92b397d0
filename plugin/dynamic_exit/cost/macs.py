"""Multiply-adds per sample, by torch's own counter (half of its floating-point operations).

A module that computes outside torch counts its own: its method ``own_macs`` takes what its ``forward`` takes and
returns the multiply-adds of that call.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, fx, nn
from torch.utils.flop_counter import FlopCounterMode

from ..errors import ModelError


def count_macs(module: Callable[..., object], example_inputs: Sequence[Tensor]) -> float:
    """Count the multiply-adds of matrix products, convolutions and attention.

    Args:
        module: Anything callable with the inputs; it is run once.
        example_inputs: Its tensors, the batch first.

    Returns:
        Multiply-adds per sample.

    Raises:
        ModelError: No inputs, or a batch of 0 rows.
    """
    rows = _rows(example_inputs)
    with _counting() as counter, _counting_outside(module) as outside:
        module(*example_inputs)
    return (counter.get_total_flops() / 2 + sum(outside)) / rows


def node_macs(graph_module: fx.GraphModule, example_inputs: Sequence[Tensor]) -> dict[str, float]:
    """Count the multiply-adds of each node of a graph; they add up to ``count_macs`` of the whole.

    Args:
        graph_module: A graph module, or anything that holds one as ``graph_module``; it is run once.
        example_inputs: Its tensors, the batch first.

    Returns:
        Node name -> multiply-adds per sample, for every node of the graph.

    Raises:
        ModelError: No inputs, or a batch of 0 rows.
    """
    graph_module = getattr(graph_module, "graph_module", graph_module)
    rows = _rows(example_inputs)
    with _counting() as counter:
        interpreter = _Counting(graph_module, counter)
        interpreter.run(*example_inputs)
    return {name: flops / 2 / rows for name, flops in interpreter.flops.items()}


class _NoModules:
    """Stands in for the counter's module tracker: everything belongs to the whole."""

    parents = frozenset({"Global"})

    def __enter__(self) -> "_NoModules":
        return self

    def __exit__(self, *error: object) -> None:
        pass


@contextlib.contextmanager
def _counting() -> Iterator[FlopCounterMode]:
    # torch's fused attention layer is one operator that its counter does not know
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        counter = FlopCounterMode(display=False)
        # only the sum is wanted, and the tracking of modules fails on views of parameters (timm's cait)
        counter.mod_tracker = _NoModules()
        with torch.no_grad(), counter:
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


@contextlib.contextmanager
def _counting_outside(module: Callable[..., object]) -> Iterator[list[float]]:
    """Collect what modules inside `module` count themselves."""
    inner = module.modules() if isinstance(module, nn.Module) else ()
    found: list[float] = []
    handles = [
        each.register_forward_hook(lambda one, inputs, _: found.append(one.own_macs(*inputs)))
        for each in inner
        if hasattr(each, "own_macs")
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


class _Counting(fx.Interpreter):
    """Runs a graph and notes how far each node moves a running counter."""

    def __init__(self, graph_module: fx.GraphModule, counter: FlopCounterMode):
        super().__init__(graph_module)
        self.counter = counter
        self.flops: dict[str, int] = {}

    def run_node(self, n: fx.Node) -> object:
        before = self.counter.get_total_flops()
        result = super().run_node(n)
        self.flops[n.name] = self.counter.get_total_flops() - before
        return result


def _rows(example_inputs: Sequence[Tensor]) -> int:
    if not example_inputs or example_inputs[0].dim() == 0 or example_inputs[0].shape[0] < 1:
        raise ModelError("counting multiply-adds needs example inputs of one row or more")
    return example_inputs[0].shape[0]
