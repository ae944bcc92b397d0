"""Graphs on the move: constants such as masks and positions were traced with the old dtype and device."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn


@contextlib.contextmanager
def constants_follow(module: nn.Module) -> Iterator[None]:
    """Within a context a module moves to another dtype or device, and the constants in its graphs follow.

    Args:
        module: Holds one graph or several; one without a floating tensor stays as it is.
    """
    before = working_place(module)
    yield
    after = working_place(module)
    if before is None or after is None or before == after:
        return
    new = dict(zip(before, after, strict=True))

    def replace(value: Any) -> Any:
        return new.get(value, value) if isinstance(value, torch.dtype | torch.device) else value

    for part in module.modules():
        if not isinstance(part, fx.GraphModule):
            continue
        for node in part.graph.nodes:
            node.args = fx.node.map_aggregate(node.args, replace)
            node.kwargs = fx.node.map_aggregate(node.kwargs, replace)
        part.recompile()


def working_place(module: nn.Module) -> tuple[torch.dtype, torch.device] | None:
    """Return dtype and device of a module's first floating tensor; None if it has none."""
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point():
            return tensor.dtype, tensor.device
    return None
