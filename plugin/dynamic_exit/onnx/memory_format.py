"""The memory layout of what one segment hands to the next."""

import onnx
from onnx import helper

from ..chain.names import HIDDEN
from .part import Part
from .quantize import is_quantized

# channels in one block of onnxruntime's own layout, the widest that processors have
_BLOCK = 16
_NAME = "layout"


def with_layout(part: Part) -> Part:
    """Let a segment bring the map that it takes into onnxruntime's blocked layout once, for all that reads it.

    Convolutions want blocks of channels. What crosses a cut is laid out plainly, and where a shortcut beside a
    convolution reads it plainly too, the two are not fused and all of the first block goes back and forth. A maximum
    over windows of one place changes no value, and what reads its answer gets blocks.

    Args:
        part: A segment; unless it is in float, convolves, and takes a map (C, H, W) of whole blocks, it comes back as
            it is.

    Returns:
        The segment, with the same answers.
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
