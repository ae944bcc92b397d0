"""In-place operators for segments, as most models use them before they are captured.

Capture replaces every in-place operation by one that allocates, which costs convolutional networks several percent of
the time in eager mode. This restores it where no other node can read the overwritten tensor.
"""

import operator

import torch
from torch import fx
from torch._ops import OpOverload

from .program import Program

aten = torch.ops.aten
#: Operators and their forms that write into their first argument.
IN_PLACE: dict[object, OpOverload] = {
    aten.relu.default: aten.relu_.default,
    aten.silu.default: aten.silu_.default,
    aten.hardswish.default: aten.hardswish_.default,
    aten.hardtanh.default: aten.hardtanh_.default,
    aten.leaky_relu.default: aten.leaky_relu_.default,
    aten.add.Tensor: aten.add_.Tensor,
}
#: Operators that return a new tensor, never a view, that the backward pass does not need
ALLOCATING = {
    aten.conv2d.default, aten.conv1d.default, aten.convolution.default, aten.linear.default, aten.addmm.default,
    aten.layer_norm.default, aten.add.Tensor, aten._native_batch_norm_legit_no_training.default,
}  # fmt: skip


def in_place_operator(program: Program, node: fx.Node, start: fx.Node | None) -> OpOverload | None:
    """Return the in-place form of a node's operator.

    Args:
        program: The captured model.
        node: A node of its graph.
        start: The hidden state that the segment receives, which must not be overwritten.

    Returns:
        The operator; None if the first argument may be read again, may be shared, or has another shape or dtype.
    """
    target = IN_PLACE.get(node.target)
    if target is None or not isinstance(node.args[0], fx.Node):
        return None
    source = node.args[0]
    if source is start or len(source.users) != 1 or list(node.all_input_nodes).count(source) != 1:
        return None
    if any(argument is source for argument in node.args[1:]):
        return None
    producer = source
    if source.target is operator.getitem:
        (whole, place) = source.args
        if place != 0 or not isinstance(whole, fx.Node):
            return None
        producer = whole
    same = program.shapes.get(source.name) == program.shapes.get(node.name)
    same = same and program.dtypes.get(source.name) == program.dtypes.get(node.name)
    return target if same and producer.target in ALLOCATING else None
