"""Normalization of imported ONNX classifiers: one float input, one output of float logits, a free batch."""

from collections.abc import Iterator, Mapping

import numpy as np
import onnx.inliner
from onnx import TensorProto, helper, numpy_helper

from ..errors import ModelError, first_line
from .export import strip
from .names import subgraphs
from .opset import OPSET, ir_version, operator_version
from .part import BATCH, OUTPUT

#: Name of the one input of a normalized model.
INPUT = "input"
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
# operators that may stand between a softmax and the output
_PASSING = ("Identity", "Cast", "Dropout", "Reshape", "Flatten", "Squeeze", "QuantizeLinear", "DequantizeLinear")
_QUANTIZING = ("QuantizeLinear", "DequantizeLinear")


def normalize(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Return a classifier with one input and one output of logits, with the operator version that it has.

    A softmax at the end is removed, as evidence is computed from logits. A fixed batch is made free, together with the
    reshapes that repeat it.

    Args:
        model: Any classifier with one input, batch first.
        name: The name of the model in messages.

    Returns:
        A model with one float32 input ``input`` and one float32 output ``output`` (N, C), both with a free batch.

    Raises:
        ModelError: It has several inputs or sparse weights, ends in a sigmoid, or none or several of its outputs could
            be logits.
    """
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    if model.graph.sparse_initializer:
        raise ModelError(f"ONNX model '{name}' holds sparse weights; export it with dense ones")
    held = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in held]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise ModelError(f"ONNX model '{name}' takes {len(inputs)} inputs ({names}); a candidate takes one")
    shapes = _shapes(model)
    output = _find_output(model.graph, shapes, name)
    nodes = _needed(model.graph, output)
    if _last_of(nodes, output) in ("Sigmoid", "HardSigmoid") and shapes.get(output, [0, 0])[1] != 1:
        said = "ends in a sigmoid, as models for multi-label classification do, and early exits answer with one class"
        raise ModelError(f"ONNX model '{name}' {said} a sample; give a single-label classifier")
    nodes = _without_softmax(nodes, output)
    nodes = [_with_free_batch(node, model.graph, inputs[0], shapes) for node in nodes]
    graph = helper.make_graph(nodes, "net", inputs, [], initializer=model.graph.initializer)
    for _, node in all_nodes(graph):  # strip does not enter branches
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    graph = onnx.compose.add_prefix_graph(graph, "net/")
    strip(graph)
    _add_border(graph, inputs[0], f"net/{output}", shapes.get(output))
    normalized = helper.make_model(graph, opset_imports=model.opset_import)
    normalized.ir_version = max(model.ir_version, ir_version(OPSET))
    return normalized


def convert_opset(model: onnx.ModelProto, name: str, opset: int) -> onnx.ModelProto:
    """Convert a model to another version of ONNX's operators.

    Raises:
        ModelError: An operator cannot be converted.
    """
    version = operator_version(model)
    if version == opset:
        return model
    try:
        return onnx.version_converter.convert_version(onnx.shape_inference.infer_shapes(model), opset)
    except Exception as error:  # the converter raises its own classes and RuntimeError
        reason = first_line(error)
        raise ModelError(
            f"ONNX model '{name}' has operators of version {version}, which cannot be converted to version {opset}: "
            f"{reason}; export it with opset_version={opset}"
        ) from error


def all_nodes(graph: onnx.GraphProto) -> Iterator[tuple[int, onnx.NodeProto]]:
    """Yield every node with its depth, including those of branches and loops."""
    for node in graph.node:
        yield 0, node
        for inner in subgraphs(node):
            yield from ((depth + 1, each) for depth, each in all_nodes(inner))


def _shapes(model: onnx.ModelProto) -> dict[str, list[int | str]]:
    """Return the shapes that can be inferred, by name; a free dimension is its name, which may be empty."""
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    found = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            found[value.name] = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in dims]
    return found


def _find_output(graph: onnx.GraphProto, shapes: Mapping[str, list[int | str]], name: str) -> str:
    """Return the name of the output that could be logits (N, C), or (N, C, 1, 1) as in some old networks."""
    fitting = []
    for value in graph.output:
        shape = shapes.get(value.name)
        if value.type.tensor_type.elem_type in _FLOATS and (
            shape is None or (len(shape) >= 2 and all(dim == 1 for dim in shape[2:]))
        ):
            fitting.append(value.name)
    if "logits" in fitting:
        return "logits"
    if len(fitting) != 1:
        names = ", ".join(value.name for value in graph.output)
        raise ModelError(
            f"ONNX model '{name}' must have one output of floating logits (N, C) but {len(fitting)} of [{names}] are; "
            "call it 'logits'"
        )
    return fitting[0]


def _needed(graph: onnx.GraphProto, output: str) -> list[onnx.NodeProto]:
    """Return copies of the nodes that an output depends on, in order."""
    names, kept = {output}, []
    for node in reversed(graph.node):
        if names.intersection(node.output):
            kept.append(onnx.NodeProto.FromString(node.SerializeToString()))
            names.update(node.input)
            for inner in subgraphs(node):
                names.update(name for _, each in all_nodes(inner) for name in each.input)
                names.update(value.name for value in inner.output)
    return kept[::-1]


def _last_of(nodes: list[onnx.NodeProto], output: str) -> str | None:
    """Return the type of the operator that computes the values of an output."""
    producers = {made: node for node in nodes for made in node.output}
    while output in producers and producers[output].op_type in _PASSING:
        output = producers[output].input[0]
    return producers[output].op_type if output in producers else None


def _without_softmax(nodes: list[onnx.NodeProto], output: str) -> list[onnx.NodeProto]:
    """Replace a softmax at the end, and the quantization of its probabilities, by identities."""
    producers = {made: node for node in nodes for made in node.output}
    path, value = [], output
    while value in producers and producers[value].op_type in (*_PASSING, "Softmax"):
        node = producers[value]
        path.append(node)
        if node.op_type == "Softmax":
            for each in path:
                if each.op_type in (*_QUANTIZING, "Softmax"):
                    each.CopyFrom(helper.make_node("Identity", each.input[:1], each.output[:1], name=each.name))
            break
        value = node.input[0]
    return nodes


def _with_free_batch(
    node: onnx.NodeProto, graph: onnx.GraphProto, value: onnx.ValueInfoProto, shapes: Mapping[str, list[int | str]]
) -> onnx.NodeProto:
    """Make a reshape to a fixed batch copy its first dimension instead."""
    batch = (shapes.get(value.name) or [""])[0]
    if node.op_type != "Reshape" or not isinstance(batch, int) or (shapes.get(node.input[0]) or [""])[0] != batch:
        return node
    target = _constant(graph, node.input[1]) if len(node.input) > 1 else None
    if target is None or not target.size or target[0] != batch or 0 in target[1:]:
        return node
    del node.attribute[:]  # allowzero, with which a zero would not mean "copy"
    target = np.concatenate([[0], target[1:]]).astype(np.int64)
    graph.initializer.append(numpy_helper.from_array(target, f"{node.output[0]}/free_shape"))
    node.input[1] = f"{node.output[0]}/free_shape"
    return node


def _constant(graph: onnx.GraphProto, name: str) -> np.ndarray | None:
    for tensor in graph.initializer:
        if tensor.name == name:
            return numpy_helper.to_array(tensor)
    for node in graph.node:
        if node.op_type == "Constant" and node.output[0] == name and node.attribute[0].name == "value":
            return numpy_helper.to_array(node.attribute[0].t)
    return None


def _add_border(
    graph: onnx.GraphProto, source: onnx.ValueInfoProto, output: str, shape: list[int | str] | None
) -> None:
    """Give a graph the normalized input and output, in float32 and with a free batch."""
    kind = source.type.tensor_type.elem_type
    first = helper.make_node("Cast", [INPUT], [f"net/{source.name}"], name="border/input", to=kind)
    flat = helper.make_node("Flatten", [output], ["border/flat"], name="border/flat", axis=1)
    last = helper.make_node("Cast", ["border/flat"], [OUTPUT], name="border/output", to=TensorProto.FLOAT)
    if shape is not None and len(shape) == 2:
        last.input[0] = output
    nodes = [first, *graph.node, *([flat] if last.input[0] == "border/flat" else []), last]
    value = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, None)
    value.type.tensor_type.CopyFrom(source.type.tensor_type)
    value.type.tensor_type.elem_type = TensorProto.FLOAT
    if value.type.tensor_type.shape.dim:
        value.type.tensor_type.shape.dim[0].dim_param = BATCH
    classes = shape[1] if shape and len(shape) > 1 and isinstance(shape[1], int) else None
    outputs = [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [BATCH, classes])]
    held = list(graph.initializer)
    graph.CopyFrom(helper.make_graph(nodes, "net", [value], outputs, initializer=held))
