"""Multiply-adds per sample, counted by torch (half of its floating-point operations).

A module that computes outside torch counts its own: its method ``own_macs`` takes the arguments of ``forward`` and
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
        module: Callable with the inputs; it is run once.
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
    """Count the multiply-adds of each node of a graph; their sum is ``count_macs`` of the whole.

    Args:
        graph_module: A graph module, or an object that holds one as ``graph_module``; it is run once.
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
    """Replaces the counter's module tracker: everything is attributed to the whole."""

    parents = frozenset({"Global"})

    def __enter__(self) -> "_NoModules":
        return self

    def __exit__(self, *error: object) -> None:
        pass


@contextlib.contextmanager
def _counting() -> Iterator[FlopCounterMode]:
    # torch's counter does not know the single operator of its fused attention layer
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        counter = FlopCounterMode(display=False)
        # only the sum is needed, and tracking modules fails on views of parameters (timm's cait)
        counter.mod_tracker = _NoModules()  # type: ignore[assignment]
        with torch.no_grad(), counter:
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


@contextlib.contextmanager
def _counting_outside(module: Callable[..., object]) -> Iterator[list[float]]:
    """Collect the multiply-adds that modules inside `module` count themselves."""
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
    """Runs a graph and records by how much each node increases a running counter."""

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
