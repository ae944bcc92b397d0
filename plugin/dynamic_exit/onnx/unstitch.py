"""The parts of a dynamic file, extracted again, and its backbone as one plain model."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from onnx import TensorProto, helper

from ..chain.evidence import Evidence
from ..chain.names import HIDDEN, LOGITS
from ..errors import ExportError
from .model_parts import ModelParts
from .names import inner_graphs, rename, with_short_names
from .part import BATCH, OUTPUT, Part


def unstitch(model: onnx.ModelProto) -> ModelParts:
    """Return the parts of a dynamic file.

    Args:
        model: A model of `stitch`.

    Returns:
        Its parts; each computes what it computes inside the file.

    Raises:
        ExportError: The file has no metadata about its parts, or exits that read taps.
    """
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if "chain" not in metadata:
        raise ExportError("the file does not say what it consists of: it has no metadata 'chain'; export it anew")
    chain = json.loads(metadata["chain"])
    extractor = _Extractor(model)
    savers = [extractor.extract(each, LOGITS, {}) for each in chain["savers"]]
    segments: list[Part] = []
    for index, each in enumerate(chain["segments"]):
        output_kind = LOGITS if index == len(chain["segments"]) - 1 else HIDDEN
        segments.append(extractor.extract(each, output_kind, _carried(segments)))
    if chain["sequence"]:
        raise ExportError("a file with a sequence network is not taken apart; export it without `sequence`")
    exits = []
    for each in chain["exits"]:
        index = each["behind"]
        exits.append((extractor.extract(each, LOGITS, _carried(segments[: index + 1])), index))
    # files of an older version name the rule alone
    parameters = {key: chain[key] for key in ("confidence", "powers", "gates") if key in chain}
    return ModelParts(savers, segments, exits, Evidence.from_parameters(chain["fuse"], **parameters))


def static_model(segments: Sequence[Part], inputs: Sequence[onnx.ValueInfoProto]) -> onnx.ModelProto:
    """Join the segments of a backbone into one plain model.

    Args:
        segments: In order; the last returns logits.
        inputs: Inputs of the backbone, batch first.

    Returns:
        A model with the same inputs and one output ``output``, logits float32 (N, C).
    """
    nodes, initializers, hidden = [], [], ""
    for segment in segments:
        graph, prefix = with_short_names(segment.name, segment.proto.graph), f"{segment.name}:"
        for name in segment.input_names:
            nodes.append(helper.make_node("Identity", [hidden if name == HIDDEN else name], [prefix + name]))
        nodes.extend(graph.node)
        initializers.extend(graph.initializer)
        hidden = prefix + OUTPUT
    nodes.append(helper.make_node("Identity", [hidden], [OUTPUT]))
    logits = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [BATCH, *segments[-1].output_shape])
    graph = helper.make_graph(nodes, "backbone", inputs, [logits], initializer=initializers)
    first = segments[0].proto
    return helper.make_model(graph, opset_imports=first.opset_import, ir_version=first.ir_version)


class _Extractor:
    """Finds parts by the names that their values have in a file."""

    def __init__(self, model: onnx.ModelProto):
        self.model = model
        self.inputs = {value.name: value for value in model.graph.input}
        graphs = inner_graphs(model.graph)
        self.made = {name: graph for graph in graphs for node in graph.node for name in node.output}

    def extract(self, entry: Mapping[str, Any], output_kind: str, carried: Mapping[str, onnx.ValueInfoProto]) -> Part:
        name, input_names = entry["name"], tuple(entry["takes"])
        prefix = f"{name}:"
        if prefix + OUTPUT not in self.made:
            raise ExportError(f"the file holds no stage '{name}', though its metadata say so; export it anew")
        whole, border = self.made[prefix + OUTPUT], {prefix + taken for taken in input_names}
        nodes = [node for node in whole.node if node.output[0].startswith(prefix) and node.output[0] not in border]
        held = [each for each in whole.initializer if each.name.startswith(prefix)]
        known = {**self.inputs, **carried}
        inputs = [_named(known[taken], prefix + taken) for taken in input_names]
        output = helper.make_tensor_value_info(prefix + OUTPUT, TensorProto.FLOAT, entry["shape"])
        graph = helper.make_graph(nodes, name, inputs, [output], initializer=held)
        rename(graph, lambda value: value.removeprefix(prefix))
        proto = helper.make_model(graph, opset_imports=self.model.opset_import, ir_version=self.model.ir_version)
        return Part(name, proto, input_names, output_kind)


def _carried(segments: Sequence[Part]) -> dict[str, onnx.ValueInfoProto]:
    return {HIDDEN: segments[-1].proto.graph.output[0]} if segments else {}


def _named(value: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
    copy = onnx.ValueInfoProto()
    copy.CopyFrom(value)
    copy.name = name
    return copy
