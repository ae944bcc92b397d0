"""The part of a graph between two nodes."""

from typing import cast

from torch import fx

from .program import Program


def slice_back(
    program: Program, target: fx.Node, stop: fx.Node | None
) -> tuple[set[fx.Node], dict[fx.Node, tuple[fx.Node, int]]]:
    """Collect the nodes that compute one node from another, from the inputs and from constants.

    A size of a tensor before ``stop`` is read from ``stop`` or from an input with the same size instead: after rows
    have left the batch, the earlier tensor would have a stale batch size.

    Args:
        program: The captured model.
        target: The node to compute.
        stop: The node to compute it from, which is not collected; None for the inputs alone.

    Returns:
        The nodes, and for each size among them that is read elsewhere, the node and the dimension to read.
    """
    sources = ([stop] if stop is not None else []) + program.placeholders
    found: set[fx.Node] = set()
    sizes: dict[fx.Node, tuple[fx.Node, int]] = {}
    waiting = [target]
    while waiting:
        node = waiting.pop()
        if node is stop or node in found:
            continue
        found.add(node)
        if is_size(node):
            place = _same_size(program, node, sources)
            if place is not None:
                sizes[node] = place
                waiting.append(place[0])
                continue
        waiting.extend(node.all_input_nodes)
    return found, sizes


def is_size(node: fx.Node) -> bool:
    """Return whether a node reads one dimension of a tensor's shape."""
    return node.op == "call_function" and "sym_size" in str(node.target)


def _same_size(program: Program, node: fx.Node, sources: list[fx.Node]) -> tuple[fx.Node, int] | None:
    tensor, dimension = cast("tuple[fx.Node, int]", node.args)
    wanted = program.shapes[tensor.name][dimension]
    for source in sources:
        shape = program.shapes[source.name]
        if wanted in shape and isinstance(wanted, str):
            return source, shape.index(wanted)
    return None
