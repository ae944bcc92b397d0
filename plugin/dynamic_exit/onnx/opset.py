"""Versions of ONNX's own operators (opsets): those that files can be written with, and how parts get them."""

import onnx
from onnx import helper, numpy_helper

from ..errors import ExportError
from .names import inner_graphs

#: Unless the recipe says otherwise.
OPSET = 20
#: Versions that files can be written with. Older ones lack layer normalization; newer ones have operators that the
#: quantizer does not know, such as attention.
OLDEST_OPSET, NEWEST_OPSET = 17, 21
#: The oldest opset that torch's exporter writes.
EXPORTED_FROM = 18
_DOMAINS = ("", "ai.onnx")


def ir_version(opset: int) -> int:
    """Return the version of the file format that goes with an opset: the oldest that runtimes of its time read."""
    return {17: 8, 18: 8, 19: 9}.get(opset, 10)


def operator_version(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operators that a model uses."""
    return next((each.version for each in model.opset_import if each.domain in _DOMAINS), OPSET)


def set_opset(model: onnx.ModelProto, opset: int, name: str) -> None:
    """Bring a model to an opset that the exporter does not write, and let it state no version that it does not need.

    Args:
        model: Changed in place; it has the wanted opset, or 18.
        opset: `OLDEST_OPSET` to `NEWEST_OPSET`.
        name: The name of the stage in messages.

    Raises:
        ExportError: An operator has no form in that opset.
    """
    if opset < EXPORTED_FROM:
        lower_operators(model.graph)
    nodes = [node for graph in inner_graphs(model.graph) for node in graph.node]
    used = {node.domain for node in nodes} - set(_DOMAINS)
    others = [(each.domain, each.version) for each in model.opset_import if each.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(*each) for each in [("", opset), *others])
    model.ir_version = ir_version(opset)
    if opset < EXPORTED_FROM:
        for node in nodes:
            if node.domain in _DOMAINS:
                _check(node, opset, name)


def lower_operators(graph: onnx.GraphProto) -> None:
    """Write reductions, splits and resizes of a graph and its subgraphs, in place, as they were before opset 18."""
    for each in inner_graphs(graph):
        _lower(each)


def _lower(graph: onnx.GraphProto) -> None:
    held = {tensor.name: tensor for tensor in graph.initializer}
    held |= {node.output[0]: node.attribute[0].t for node in graph.node if _is_constant(node)}
    for node in graph.node:
        if node.op_type.startswith("Reduce") and node.op_type != "ReduceSum":
            if len(node.input) > 1 and node.input[1] in held:
                axes = numpy_helper.to_array(held[node.input[1]]).tolist()
                node.attribute.append(helper.make_attribute("axes", axes))
                del node.input[1:]
            _drop(node, "noop_with_empty_axes", 0)
        elif node.op_type == "Split" and len(node.input) < 2:
            _drop(node, "num_outputs", len(node.output))  # without it, too, the outputs are of one size
        elif node.op_type == "Resize":
            _drop(node, "antialias", 0)
            _drop(node, "keep_aspect_ratio_policy", b"stretch")
    read = {name for each in inner_graphs(graph) for node in each.node for name in node.input}
    read.update(value.name for each in inner_graphs(graph) for value in each.output)
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _is_constant(node: onnx.NodeProto) -> bool:
    return node.op_type == "Constant" and node.attribute[0].name == "value"


def _drop(node: onnx.NodeProto, name: str, value: object) -> None:
    """Remove an attribute that says nothing but the default."""
    kept = [each for each in node.attribute if each.name != name or helper.get_attribute_value(each) != value]
    del node.attribute[:]
    node.attribute.extend(kept)


def _check(node: onnx.NodeProto, opset: int, name: str) -> None:
    """Refuse an operator with inputs or attributes that its opset does not have."""
    try:
        schema = onnx.defs.get_schema(node.op_type, opset)
        fits = len(node.input) <= schema.max_input and {each.name for each in node.attribute} <= {*schema.attributes}
    except onnx.defs.SchemaError:
        fits = False
    if not fits:
        raise ExportError(
            f"stage '{name}' has an operator {node.op_type} that opset {opset} does not have; set `export.opset` to "
            f"{EXPORTED_FROM} or more, or leave this stage out"
        )
