"""The parts of a dynamic file, taken out of it again, and the backbone alone in one piece."""

import json
from collections.abc import Iterator, Mapping, Sequence

import onnx
from onnx import TensorProto, helper

from ..errors import ExportError
from .parts import BATCH, OUTPUT, Part
from .stitch import Chain

_HIDDEN = "hidden"


def unstitch(model: onnx.ModelProto) -> Chain:
    """Take a dynamic file apart.

    Args:
        model: What `stitch` made.

    Returns:
        Its chain; each part answers as it does inside the file.

    Raises:
        ExportError: The file does not say what it consists of.
    """
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if "chain" not in metadata:
        raise ExportError("the file does not say what it consists of: it has no metadata 'chain'; export it anew")
    told = json.loads(metadata["chain"])
    taker = _Taker(model)
    savers = [taker.take(each, "logits", [f"stage{index}/then/"], {}) for index, each in enumerate(told["savers"])]
    outer = [f"stage{index}/then/" for index in range(len(json.loads(metadata["stages"])))] + ["final/then/"]
    segments: list[Part] = []
    for index, each in enumerate(told["segments"]):
        gives = "logits" if index == len(told["segments"]) - 1 else _HIDDEN
        segments.append(taker.take(each, gives, outer, _carried(segments)))
    if told["notes"]:
        raise ExportError("a file with a sequence network is not taken apart; export it without `sequence`")
    exits = []
    for index, each in enumerate(told["exits"], start=len(savers)):
        carried = _carried(segments[: each["behind"] + 1])
        exits.append((taker.take(each, "logits", [f"stage{index}/head/then/"], carried), each["behind"]))
    return Chain(savers, segments, exits, told["fuse"])


def static_model(segments: Sequence[Part], inputs: Sequence[onnx.ValueInfoProto]) -> onnx.ModelProto:
    """Join the segments of a backbone into one plain model.

    Args:
        segments: In order; the last gives logits.
        inputs: The backbone's own, batch first.

    Returns:
        A model with the same inputs and one output ``output``, logits float32 (N, C).
    """
    nodes, initializers, infos, hidden = [], [], [], ""
    for segment in segments:
        prefix = f"{segment.name}/"
        graph = onnx.compose.add_prefix_graph(segment.proto.graph, prefix)
        for name in segment.takes:
            nodes.append(helper.make_node("Identity", [hidden if name == _HIDDEN else name], [prefix + name]))
        nodes.extend(graph.node)
        initializers.extend(graph.initializer)
        infos.extend(graph.value_info)
        hidden = prefix + OUTPUT
    nodes.append(helper.make_node("Identity", [hidden], [OUTPUT]))
    logits = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [BATCH, *segments[-1].output_shape])
    graph = helper.make_graph(nodes, "backbone", inputs, [logits], initializer=initializers, value_info=infos)
    first = segments[0].proto
    return helper.make_model(graph, opset_imports=first.opset_import, ir_version=first.ir_version)


class _Taker:
    """Finds parts by the names that the stitcher gave to what it copied in."""

    def __init__(self, model: onnx.ModelProto):
        self.model = model
        self.inputs = {value.name: value for value in model.graph.input}
        self.made = {name: graph for graph in _graphs(model.graph) for node in graph.node for name in node.output}

    def take(
        self, told: Mapping, gives: str, places: Sequence[str], carried: Mapping[str, onnx.ValueInfoProto]
    ) -> Part:
        name, takes = told["name"], tuple(told["takes"])
        prefixes = [f"{place}{name}/" for place in places if f"{place}{name}/{OUTPUT}" in self.made]
        if not prefixes:
            raise ExportError(f"the file holds no stage '{name}', though its metadata say so; export it anew")
        prefix = prefixes[0]
        graph = self.made[prefix + OUTPUT]
        border = {prefix + taken for taken in takes}
        nodes = [
            node
            for node in graph.node
            if any(output.startswith(prefix) for output in node.output) and node.output[0] not in border
        ]
        inner = [each for each in graph.initializer if each.name.startswith(prefix)]
        infos = [each for each in graph.value_info if each.name.startswith(prefix) and each.name != prefix + OUTPUT]
        known = {**self.inputs, **carried}
        inputs = [_renamed(known[taken], prefix + taken) for taken in takes]
        output = helper.make_tensor_value_info(prefix + OUTPUT, TensorProto.FLOAT, told["shape"])
        part = helper.make_graph(nodes, name, inputs, [output], initializer=inner, value_info=infos)
        proto = helper.make_model(_without_prefix(part, prefix), opset_imports=self.model.opset_import)
        proto.ir_version = self.model.ir_version
        return Part(name, proto, takes, gives)


def _carried(segments: Sequence[Part]) -> dict[str, onnx.ValueInfoProto]:
    return {_HIDDEN: segments[-1].proto.graph.output[0]} if segments else {}


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _graphs(attribute.g)


def _renamed(value: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
    copy = onnx.ValueInfoProto()
    copy.CopyFrom(value)
    copy.name = name
    return copy


def _without_prefix(graph: onnx.GraphProto, prefix: str) -> onnx.GraphProto:
    for each in _graphs(graph):
        for value in (*each.input, *each.output, *each.value_info, *each.initializer):
            value.name = value.name.removeprefix(prefix)
        for node in each.node:
            node.name = node.name.removeprefix(prefix)
            node.input[:] = [name.removeprefix(prefix) for name in node.input]
            node.output[:] = [name.removeprefix(prefix) for name in node.output]
    return graph
