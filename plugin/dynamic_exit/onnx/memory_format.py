"""The memory layout of the hidden state between two segments."""

import onnx
from onnx import helper

from ..chain.names import HIDDEN
from .part import Part
from .quantize import is_quantized

# channels in one block of onnxruntime's layout, the widest of all processors
_BLOCK = 16
_NAME = "layout"


def with_layout(part: Part) -> Part:
    """Return a segment that converts its hidden state to onnxruntime's blocked layout once, for all nodes that read it.

    Convolutions need blocks of channels. The hidden state arrives in plain layout, and if a shortcut beside a
    convolution reads it in plain layout too, onnxruntime does not fuse the two and converts the first block back and
    forth. A max pooling with windows of one element changes no value, and its output is in blocks.

    Args:
        part: A segment; it is returned as it is unless it is in float, has convolutions, and takes a hidden state
            (C, H, W) with a multiple of 16 channels.

    Returns:
        The segment, with the same outputs.
    """
    graph = part.proto.graph
    shape = [d.dim_value for value in graph.input if value.name == HIDDEN for d in value.type.tensor_type.shape.dim]
    convolves = any(node.op_type == "Conv" for node in graph.node)
    if not convolves or len(shape) != 4 or not shape[1] or shape[1] % _BLOCK or is_quantized(part):
        return part
    if any(_sets_layout(node) for node in graph.node):
        return part
    proto = onnx.ModelProto()
    proto.CopyFrom(part.proto)
    nodes = list(proto.graph.node)
    for node in nodes:
        node.input[:] = [_NAME if name == HIDDEN else name for name in node.input]
    first = helper.make_node("MaxPool", [HIDDEN], [_NAME], kernel_shape=[1, 1])
    copies = [first, *nodes]
    del proto.graph.node[:]
    proto.graph.node.extend(copies)
    return part.with_proto(proto)


def _sets_layout(node: onnx.NodeProto) -> bool:
    steps = {each.name: list(each.ints) for each in node.attribute}
    return node.op_type == "MaxPool" and list(node.input) == [HIDDEN] and steps == {"kernel_shape": [1, 1]}
