"""Names of values in a file of many parts."""

import itertools
from collections.abc import Callable, Iterator

import onnx


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the subgraphs of a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def inner_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and all subgraphs of its nodes."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from inner_graphs(inner)


def rename(graph: onnx.GraphProto, new_name: Callable[[str], str]) -> None:
    """Rename the values of a graph in place, including those of its subgraphs."""
    for each in inner_graphs(graph):
        for value in (*each.input, *each.output, *each.value_info, *each.initializer):
            value.name = new_name(value.name)
        for node in each.node:
            node.input[:] = [new_name(name) if name else "" for name in node.input]
            node.output[:] = [new_name(name) if name else "" for name in node.output]


def with_short_names(name: str, whole: onnx.GraphProto) -> onnx.GraphProto:
    """Return the graph of a part with short names that are unique in a file.

    Inputs, weights and the output are named ``part:name``, the values between them ``part:0``, ``part:1`` and so on.
    Names of nodes and shapes of inner values are dropped, since runtimes infer them.
    """
    graph = onnx.GraphProto()
    graph.CopyFrom(whole)
    inside = [*inner_graphs(graph)]
    kept = {value.name for value in (*graph.input, *graph.output)}
    kept |= {tensor.name for each in inside for tensor in each.initializer}
    free = (str(number) for number in itertools.count() if str(number) not in kept)
    names = {value: value for value in kept}
    for each in inside:
        for made in (*(value.name for value in each.input), *(made for node in each.node for made in node.output)):
            if made and made not in names:
                names[made] = next(free)
    rename(graph, lambda value: f"{name}:{names[value]}" if value in names else value)
    for each in inside:
        del each.value_info[:]
        for node in each.node:  # its outputs identify it
            node.ClearField("name")
    return graph
