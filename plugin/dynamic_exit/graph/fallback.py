"""Capture by torch.fx, for models that torch.export refuses."""

import copy
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..errors import CaptureError
from .classifier import Classifier
from .preprocessing import Preprocessing

_IN_PLACE = {
    operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ipow, operator.iand, operator.ior,
    operator.setitem,
}  # fmt: skip


class _Tracer(fx.Tracer):
    """Symbolic tracing that enters containers and stops at the layers of torch."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Preprocessing) or super().is_leaf_module(m, module_qualified_name)


def _one(self: Classifier, a: Tensor) -> Tensor:
    return super(type(self), self).forward(a)


def _two(self: Classifier, a: Tensor, b: Tensor) -> Tensor:
    return super(type(self), self).forward(a, b)


def _three(self: Classifier, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return super(type(self), self).forward(a, b, c)


def _four(self: Classifier, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    return super(type(self), self).forward(a, b, c, d)


# torch.fx needs a `forward` with a fixed number of arguments
_FORWARDS = {1: _one, 2: _two, 3: _three, 4: _four}


def _fix_arity(classifier: Classifier, count: int) -> Classifier:
    """Return a classifier of the same parts whose ``forward`` takes so many arguments."""
    kind = type(classifier)
    fixed = copy.copy(classifier)
    fixed.__class__ = type(kind.__name__, (kind,), {"forward": _FORWARDS[count]})
    return fixed


def trace(
    classifier: Classifier, example_inputs: tuple[Tensor, ...]
) -> tuple[fx.GraphModule, tuple[dict[str, tuple[int | str, ...]], dict[str, torch.dtype]]]:
    """Trace a classifier and find the shape of every node, with a free batch size.

    Args:
        classifier: In evaluation mode, with at most four inputs.
        example_inputs: One tensor per input, with a batch of at least two first.

    Returns:
        The graph module, and by node name the shapes (a size that follows the batch is an expression in ``batch``) and
        the dtypes.

    Raises:
        CaptureError: There are too many inputs, a node writes in place, or a size does not follow the batch size.
        Exception: Whatever torch.fx raises for statements that it cannot trace.
    """
    if len(example_inputs) not in _FORWARDS:
        raise CaptureError(f"{len(example_inputs)} inputs are more than torch.fx is used for here (four)")
    wrapper = _fix_arity(classifier, len(example_inputs))
    graph = _Tracer().trace(wrapper)
    module = fx.GraphModule(wrapper, graph)
    for node in graph.nodes:
        if _writes_in_place(node, module):
            raise CaptureError(f"'{node.name}' writes in place, which torch.fx cannot split safely")
    rows = example_inputs[0].shape[0]
    first = _tensors(module, example_inputs)
    second = _tensors(module, tuple(torch.cat([x, x[:1]]) for x in example_inputs))
    shapes: dict[str, tuple[int | str, ...]] = {}
    dtypes: dict[str, torch.dtype] = {}
    for name, (shape, dtype) in first.items():
        shapes[name] = tuple(_follow(name, *sides, rows) for sides in zip(shape, second[name][0], strict=True))
        dtypes[name] = dtype
    return module, (shapes, dtypes)


def _follow(name: str, side: int, larger: int, rows: int) -> int | str:
    if side == larger:
        return side
    factor, rest = divmod(side, rows)
    if rest or larger != factor * (rows + 1):
        raise CaptureError(f"a size of '{name}' is {side} for {rows} rows and {larger} for {rows + 1}")
    return "batch" if factor == 1 else f"{factor}*batch"


def _tensors(module: fx.GraphModule, inputs: tuple[Tensor, ...]) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    found: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}

    class _Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if isinstance(value, Tensor):
                found[n.name] = (tuple(value.shape), value.dtype)
            return value

    _Recorder(module).run(*inputs)
    return found


def _writes_in_place(node: fx.Node, module: fx.GraphModule) -> bool:
    if node.op == "call_method":
        method = str(node.target)
        return method.endswith("_") and not method.endswith("__")
    if node.op == "call_module":
        return bool(getattr(module.get_submodule(str(node.target)), "inplace", False))
    return node.op == "call_function" and (node.target in _IN_PLACE or bool(node.kwargs.get("inplace")))
