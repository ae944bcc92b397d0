"""Brings an exported program into operators that are known, where a few rules suffice.

torch traces a program once more to make it functional, and its ONNX exporter twice more, to take operators apart and to
make casts explicit. That is half of the time of a small export, and changes nothing but a handful of operators where a
program writes nothing that may be read again and computes in float32 alone.
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from .in_place import ALLOCATING, IN_PLACE

_ATEN = torch.ops.aten
_FUNCTIONAL: dict[Any, Any] = {in_place: plain for plain, in_place in IN_PLACE.items()}
# operators whose result nothing else shares, also before they are replaced
_FRESH = {*ALLOCATING, *_FUNCTIONAL, _ATEN.batch_norm.default}
#: Operators that making a program functional leaves as they are.
_UNCHANGED = {
    *IN_PLACE, *ALLOCATING, operator.getitem, _ATEN.mul.Tensor, _ATEN.gelu.default, _ATEN.hardsigmoid.default,
    _ATEN.max_pool2d.default, _ATEN.avg_pool2d.default, _ATEN.adaptive_avg_pool2d.default, _ATEN.mean.dim,
    _ATEN.cat.default, _ATEN.permute.default, _ATEN.transpose.int, _ATEN.sigmoid.default, _ATEN.sub.Tensor,
    _ATEN.div.Tensor, _ATEN.neg.default, _ATEN.tanh.default, _ATEN.embedding.default, _ATEN.softmax.int,
    _ATEN.matmul.default, _ATEN.sum.dim_IntList, _ATEN.unsqueeze.default, _ATEN.select.int, _ATEN.slice.Tensor,
    _ATEN.view.default,
}  # fmt: skip
#: Operators that take sizes, and compute with none.
_SIZED = {_ATEN.view.default, _ATEN.reshape.default, _ATEN.expand.default}


def make_functional(program: ExportedProgram) -> ExportedProgram:
    """Replace operators in place, and those that torch replaces besides; as ``program.run_decompositions({})`` does.

    Args:
        program: As torch.export made it; it may be changed.

    Returns:
        The program without operators in place.
    """
    return program if lower(program, _stays) else program.run_decompositions({})


def _stays(target: object) -> bool:
    # operators of quantized programs are registered when something is quantized
    return target in _UNCHANGED or str(target).startswith("quantized_decomposed.")


def lower(program: ExportedProgram, is_known: Callable[[Any], bool]) -> bool:
    """Replace the operators of a program that are not known, in place; all or none of them.

    Args:
        program: As torch.export made it.
        is_known: Whether an operator may stay as it is.

    Returns:
        Whether all operators of the program are known now; if not, nothing has been changed.
    """
    signature = program.graph_signature
    if signature.buffers_to_mutate or signature.user_inputs_to_mutate:
        return False
    graph = program.graph_module.graph
    replacements = []
    for node in graph.nodes:
        if node.op == "get_attr":
            return False
        if node.op == "call_function" and (not is_known(node.target) or _writes(node.target)):
            rule = _RULES.get(node.target)
            replace = None if rule is None else rule(node, *node.args)
            if replace is None:
                return False
            replacements.append(replace)
    for replace in replacements:
        replace()
    (outputs,) = graph.output_node().args
    for specification, output in zip(signature.output_specs, outputs, strict=True):
        if isinstance(output, fx.Node):
            specification.arg.name = output.name
    program.graph_module.recompile()
    return True


def is_float_alone(graph: fx.Graph) -> bool:
    """Whether all values that a graph uses are float32, or sizes of what it makes: then no operator casts one."""
    return all(_is_float(node.meta.get("val")) or _is_size(node) for node in graph.nodes if node.users)


def _is_float(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_float, value))
    return isinstance(value, Tensor) and value.dtype == torch.float32


def _is_size(node: fx.Node) -> bool:
    """Whether a node is a number that operators take as the size of their result alone."""
    return isinstance(node.meta.get("val"), torch.SymInt) and all(user.target in _SIZED for user in node.users)


def _writes(target: Any) -> bool:
    schema = getattr(target, "_schema", None)
    return schema is not None and schema.is_mutable


def _in_place(node: fx.Node, written: Any, *_: Any) -> Callable[[], None] | None:
    if not isinstance(written, fx.Node) or list(written.users) != [node] or written.op != "call_function":
        return None
    source = written.args[0] if written.target is operator.getitem else written
    if not isinstance(source, fx.Node) or source.target not in _FRESH:
        return None
    dtypes = {getattr(each.meta.get("val"), "dtype", None) for each in node.all_input_nodes}
    if dtypes != {node.meta["val"].dtype}:
        return None

    def replace() -> None:
        node.target = _FUNCTIONAL[node.target]

    return replace


def _batch_norm(
    node: fx.Node, values: Any, weight: Any, bias: Any, mean: Any, variance: Any, training: Any, *_: Any
) -> Callable[[], None] | None:
    if training or mean is None or variance is None:
        return None

    def replace() -> None:
        graph, made = node.graph, node.meta["val"]
        with graph.inserting_before(node):
            arguments = (*node.args[:5], *node.args[6:8])
            norm = graph.call_function(_ATEN._native_batch_norm_legit_no_training.default, arguments)
            first = graph.call_function(operator.getitem, (norm, 0))
        norm.meta = node.meta | {"val": (made, made.new_empty(0), made.new_empty(0))}
        first.meta = dict(node.meta)
        node.replace_all_uses_with(first)
        graph.erase_node(node)

    return replace


def _adaptive_pool(node: fx.Node, values: Any, size: Any) -> Callable[[], None] | None:
    if not all(isinstance(wanted, int) for wanted in size):
        return None
    sides = values.meta["val"].shape[-2:]
    arguments: tuple[Any, ...]
    if all(wanted == 1 for wanted in size):
        target, arguments = _ATEN.mean.dim, ([-1, -2], True)
    elif all(isinstance(side, int) and side % wanted == 0 for side, wanted in zip(sides, size, strict=True)):
        kernel = [side // wanted for side, wanted in zip(sides, size, strict=True)]
        target, arguments = _ATEN.avg_pool2d.default, (kernel, kernel)
    else:
        return None

    def replace() -> None:
        node.target, node.args = target, (node.args[0], *arguments)

    return replace


def _dropout(node: fx.Node, values: Any, share: Any, training: Any) -> Callable[[], None] | None:
    if training:
        return None

    def replace() -> None:
        node.replace_all_uses_with(node.all_input_nodes[0])
        node.graph.erase_node(node)

    return replace


def _flatten(node: fx.Node, values: Any, start: Any = 0, end: Any = -1) -> Callable[[], None] | None:
    made = node.meta["val"]
    if (start, end) != (1, -1) or not values.meta["val"].is_contiguous() or not isinstance(made.shape[1], int):
        return None
    rows = next((each for each in node.graph.nodes if _has_rows(each, made.shape[0])), None)
    if rows is None:
        return None

    def replace() -> None:
        graph = node.graph
        inputs = [each for each in graph.nodes if each.op == "placeholder"]
        with graph.inserting_after(inputs[-1]):
            size = graph.call_function(_ATEN.sym_size.int, (rows, 0))
        size.meta["val"] = made.shape[0]
        node.target, node.args = _ATEN.view.default, (node.args[0], [size, made.shape[1]])

    return replace


def _has_rows(node: fx.Node, rows: object) -> bool:
    """Whether a node is an input whose free number of rows is this one."""
    value = node.meta.get("val")
    if node.op != "placeholder" or not isinstance(value, Tensor) or value.dim() == 0:
        return False
    first = value.shape[0]
    if not isinstance(first, torch.SymInt) or not isinstance(rows, torch.SymInt):
        return False
    return bool(first.node.expr == rows.node.expr)


#: What replaces an operator, of a node and its arguments; None where that may make a difference.
_RULES: dict[Any, Callable[..., Callable[[], None] | None]] = {
    _ATEN.batch_norm.default: _batch_norm,
    _ATEN.adaptive_avg_pool2d.default: _adaptive_pool,
    _ATEN.dropout.default: _dropout,
    _ATEN.flatten.using_ints: _flatten,
    **dict.fromkeys(_FUNCTIONAL, _in_place),
}
