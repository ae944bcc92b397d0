"""Export of segments, heads and savers one by one, each with one symbol for the batch size."""

import re
from collections.abc import Sequence

from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

from ..errors import CaptureError
from . import symbolic_trace
from .direct_lowering import make_functional
from .operator_tables import one_pass_over_operators
from .validation import explain

#: Key in a node's `meta` for the user's module that the node comes from.
ORIGIN = "origin"


class _Positional(nn.Module):
    """A module with positional arguments, whose dimensions can be named by position."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module
        self.training = False

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.module(*tensors)


def export_program(
    module: nn.Module,
    example_inputs: Sequence[Tensor],
    dynamic_dims: Sequence[dict[int, str]] | None = None,
    *,
    functional: bool = True,
) -> ExportedProgram:
    """Export a module for ``torch.onnx.export(..., dynamo=True)`` or ``torch.export.save``.

    Args:
        module: A segment, head or saver in evaluation mode.
        example_inputs: Arguments of its ``forward``, with a batch of at least two first.
        dynamic_dims: Free dimensions of each input, index -> name; None takes the module's ``dynamic_dims``, else
            none. The batch is always free.
        functional: Whether to replace operators in place by functional ones, which takes as long as the export;
            ``torch.onnx.export`` does so itself.

    Returns:
        The program; its batch size is one symbol named ``batch``, at least 1.

    Raises:
        CaptureError: The module is in training mode, the example has one row, or an operator cannot be exported.
    """
    example_inputs = tuple(example_inputs)
    name = type(module).__name__
    if any(each.training for each in module.modules()):
        raise CaptureError(f"{name} cannot be exported in training mode; call .eval() first")
    if not example_inputs or any(x.dim() == 0 or x.shape[0] < 2 for x in example_inputs):
        raise CaptureError(f"{name} needs an example batch of two or more rows; got {_shapes(example_inputs)}")
    if dynamic_dims is None:
        dynamic_dims = getattr(module, "dynamic_dims", None) or [{}] * len(example_inputs)
    if len(dynamic_dims) != len(example_inputs):
        raise CaptureError(f"{name} came with {len(example_inputs)} inputs and dimensions for {len(dynamic_dims)}")
    failures: list[Exception] = []
    for lengths in (True, False):
        named: dict[str, object] = {"batch": symbolic_trace.batch_dim(example_inputs)}
        shapes = tuple(_named(dims, named, lengths) for dims in dynamic_dims)
        try:
            with one_pass_over_operators():
                exported = symbolic_trace.export(_Positional(module), example_inputs, "tensors", shapes)
                return make_functional(exported) if functional else exported
        except Exception as error:  # torch.export raises dozens of types
            failures.append(error)
        if all(set(dims) <= {0} for dims in dynamic_dims):
            break
    raise CaptureError(f"{name} cannot be exported: {explain(failures[0])}") from failures[0]


def _named(dims: dict[int, str], named: dict[str, object], lengths: bool) -> dict[int, object]:
    """Return dimensions for torch.export: one shared ``Dim`` per name; composed expressions are inferred."""
    shape = {}
    for place, side in ({0: "batch"} | dims).items():
        if lengths and side.isidentifier():
            shape[place] = named.setdefault(side, Dim(side))
        else:
            shape[place] = named["batch"] if side == "batch" else Dim.AUTO
    return shape


def _shapes(tensors: Sequence[Tensor]) -> list[tuple[int, ...]]:
    return [tuple(x.shape) for x in tensors]


def origin(node: fx.Node) -> str | None:
    """Return the innermost user module around a captured or exported node, such as ``'layer1.0' (Block)``."""
    calls = list((node.meta.get("nn_module_stack") or {}).values())
    if not calls:
        return None
    path, kind = calls[-1]
    name = re.sub(r"^(module|model)(\.|$)", "", re.sub(r"^module(\.|$)", "", path))
    kind = (kind if isinstance(kind, str) else kind.__qualname__).rpartition(".")[2]
    return f"'{name}' ({kind})" if name else kind


def origin_of_exported(node: fx.Node, module: nn.Module) -> str | None:
    """Return the user's module that a node of an exported program comes from.

    Args:
        node: A node of what `export_program` returned.
        module: The module that was exported; if it is a segment, the nodes of its graph have their own `ORIGIN`.

    Returns:
        As `origin`; None if unknown.
    """
    body = getattr(module, "body", None)
    if not isinstance(body, fx.GraphModule):
        return origin(node)
    # the last line of the trace is a line of the segment's code, which assigns to the name of the node
    names = re.findall(r"^\s*(\w+) = ", node.meta.get("stack_trace") or "", re.MULTILINE)[-1:]
    return next((inner.meta.get(ORIGIN) for inner in body.graph.nodes if inner.name in names), None)
