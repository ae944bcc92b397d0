"""Dequantization of parts: the same graph in float, with rounded weights."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..errors import ExportError
from .part import Part
from .quantize import ACTIVATION, INTEGER_OPERATORS


def dequantize_part(part: Part) -> Part:
    """Undo static quantization: return the same graph in float, with the rounded weights.

    Args:
        part: A part of `quantize_part`; a part in float is returned as it is.

    Returns:
        The part in float, for example to measure what int8 saves.

    Raises:
        ExportError: It is quantized in another way (see `can_dequantize`).
    """
    others = _integer_operators(part)
    if others:
        raise ExportError(f"stage '{part.name}' holds {others[0]}: only static int8 can be taken out again")
    proto = onnx.ModelProto()
    proto.CopyFrom(part.proto)
    graph = proto.graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    float_name: dict[str, str] = {}
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            source = float_name.get(node.input[0], node.input[0])
            for place, (kind, *limits) in enumerate(_activations(node)):
                given = f"{node.output[0]}/float{place}"
                names = [f"{given}/{index}" if limit is not None else "" for index, limit in enumerate(limits)]
                graph.initializer.extend(
                    numpy_helper.from_array(np.asarray(limit, np.float32), name)
                    for name, limit in zip(names, limits, strict=True)
                    if name
                )
                nodes.append(helper.make_node(kind, [source, *names], [given]))
                source = given
            float_name[node.output[0]] = source
        elif node.op_type == "DequantizeLinear" and node.input[0] in values:
            axis = next((each.i for each in node.attribute if each.name == "axis"), 1)
            whole = _dequantized([values[name] for name in node.input], axis)
            graph.initializer.append(numpy_helper.from_array(whole, node.output[0]))
        elif node.op_type == "DequantizeLinear":
            float_name[node.output[0]] = float_name[node.input[0]]
        else:
            node.input[:] = [float_name.get(name, name) for name in node.input]
            nodes.append(node)
    ends = [value.name for value in graph.output if value.name in float_name]
    nodes += [helper.make_node("Identity", [float_name[name]], [name]) for name in ends]
    used = {name for node in nodes for name in node.input}
    held = [tensor for tensor in graph.initializer if tensor.name in used]
    plain = helper.make_graph(nodes, graph.name, graph.input, graph.output, initializer=held)
    return part.with_proto(helper.make_model(plain, opset_imports=proto.opset_import, ir_version=proto.ir_version))


def can_dequantize(part: Part) -> bool:
    """Return whether a part is in float or in static int8, which `dequantize_part` can undo."""
    return not _integer_operators(part)


def _integer_operators(part: Part) -> list[str]:
    types = (*INTEGER_OPERATORS, "DynamicQuantizeLinear")
    return [node.op_type for node in part.proto.graph.node if node.op_type in types]


def _activations(node: onnx.NodeProto) -> list[list[Any]]:
    """Return the activations merged into a quantizing node, first to last: each type with its limits."""
    merged = [json.loads(entry.value) for entry in node.metadata_props if entry.key == ACTIVATION]
    return merged[0] if merged else []


def _dequantized(inputs: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """Return float values of integers; scale and zero point are one for all or one for each slice along an axis."""
    whole, scale = inputs[0], inputs[1]
    zero = inputs[2] if len(inputs) > 2 else np.zeros_like(scale, dtype=whole.dtype)
    shape = [-1 if place == axis else 1 for place in range(whole.ndim)] if scale.ndim else []
    return ((whole.astype(np.int64) - zero.astype(np.int64).reshape(shape)) * scale.reshape(shape)).astype(np.float32)
