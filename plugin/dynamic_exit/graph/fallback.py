"""The second route of capture: torch.fx, for models that torch.export refuses."""

import operator

import torch
from torch import Tensor, fx, nn

from ..errors import CaptureError
from .inputs import Preprocessing

_IN_PLACE = {
    operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ipow, operator.iand, operator.ior,
    operator.setitem,
}  # fmt: skip


class _Tracer(fx.Tracer):
    """Symbolic tracing that goes into containers and stops at torch's own layers."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Preprocessing) or super().is_leaf_module(m, module_qualified_name)


class _One(nn.Module):
    """Gives the classifier a fixed number of arguments, which torch.fx needs."""

    def __init__(self, classifier: nn.Module):
        super().__init__()
        # no own level in the names: "model.layer1" as in the other route
        self.model, self.preprocessing = classifier.model, classifier.preprocessing
        self.class_order = classifier.class_order
        self._run = type(classifier).forward
        self.keywords, self.logits = classifier.keywords, classifier.logits
        self.training = False

    def forward(self, a):
        return self._run(self, a)


class _Two(_One):
    def forward(self, a, b):
        return self._run(self, a, b)


class _Three(_One):
    def forward(self, a, b, c):
        return self._run(self, a, b, c)


class _Four(_One):
    def forward(self, a, b, c, d):
        return self._run(self, a, b, c, d)


_ARITY = {1: _One, 2: _Two, 3: _Three, 4: _Four}


def trace(classifier: nn.Module, example_inputs: tuple[Tensor, ...]) -> tuple[fx.GraphModule, dict, dict]:
    """Trace a classifier and find every node's shape, the batch size being free.

    Args:
        classifier: A ``Classifier`` in evaluation mode with at most four inputs.
        example_inputs: Batch of at least two first.

    Returns:
        The graph module, node name -> shape (an expression in ``batch`` where it follows the batch) and node name ->
        dtype.

    Raises:
        CaptureError: Too many inputs, in-place writes, or a shape that does not follow the batch size.
        Exception: Whatever torch.fx raises on statements that it cannot trace.
    """
    if len(example_inputs) not in _ARITY:
        raise CaptureError(f"{len(example_inputs)} inputs are more than torch.fx is used for here (four)")
    wrapper = _ARITY[len(example_inputs)](classifier)
    graph = _Tracer().trace(wrapper)
    module = fx.GraphModule(wrapper, graph)
    for node in graph.nodes:
        if _writes_in_place(node, module):
            raise CaptureError(f"'{node.name}' writes in place, which torch.fx cannot split safely")
    rows = example_inputs[0].shape[0]
    first = _tensors(module, example_inputs)
    second = _tensors(module, tuple(torch.cat([x, x[:1]]) for x in example_inputs))
    shapes, dtypes = {}, {}
    for name, (shape, dtype) in first.items():
        shapes[name] = tuple(_follow(name, *sides, rows) for sides in zip(shape, second[name][0], strict=True))
        dtypes[name] = dtype
    return module, shapes, dtypes


def _follow(name: str, side: int, larger: int, rows: int) -> int | str:
    if side == larger:
        return side
    factor, rest = divmod(side, rows)
    if rest or larger != factor * (rows + 1):
        raise CaptureError(f"a size of '{name}' is {side} for {rows} rows and {larger} for {rows + 1}")
    return "batch" if factor == 1 else f"{factor}*batch"


def _tensors(module: fx.GraphModule, inputs: tuple[Tensor, ...]) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    found = {}

    class _Recorder(fx.Interpreter):
        def run_node(self, n):
            value = super().run_node(n)
            if isinstance(value, Tensor):
                found[n.name] = (tuple(value.shape), value.dtype)
            return value

    _Recorder(module).run(*inputs)
    return found


def _writes_in_place(node: fx.Node, module: fx.GraphModule) -> bool:
    if node.op == "call_method":
        return node.target.endswith("_") and not node.target.endswith("__")
    if node.op == "call_module":
        return bool(getattr(module.get_submodule(node.target), "inplace", False))
    return node.op == "call_function" and (node.target in _IN_PLACE or bool(node.kwargs.get("inplace")))
