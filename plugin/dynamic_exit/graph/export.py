"""Export segments, heads and savers again, one by one, with a batch size that stays one symbol."""

import re
from collections.abc import Sequence

from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

from ..errors import CaptureError
from . import symbolic_trace
from .operator_tables import one_pass_over_operators
from .validation import explain

#: Under which key of its `meta` a segment's node says which of the user's modules it comes from.
ORIGIN = "origin"


class _Positional(nn.Module):
    """Gives every module the same signature, so that dimensions can be named by position."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module
        self.training = False

    def forward(self, *tensors):
        return self.module(*tensors)


def export_program(
    module: nn.Module,
    example_inputs: Sequence[Tensor],
    dynamic_dims: Sequence[dict[int, str]] | None = None,
) -> ExportedProgram:
    """Export a module for ``torch.onnx.export(..., dynamo=True)`` or ``torch.export.save``.

    Args:
        module: A segment, head or saver in evaluation mode.
        example_inputs: What its ``forward`` takes, batch of at least two first.
        dynamic_dims: For each input its free dimensions, index -> name; None takes those that the module states
            (``Segment.dynamic_dims``), else the batch alone. The batch is always free.

    Returns:
        The decomposed program; its batch is one symbol, named ``batch``, from 1 upwards.

    Raises:
        CaptureError: Training mode, an example of one row, or an operator that cannot be exported.
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
    failure: Exception | None = None
    for lengths in (True, False):
        named: dict[str, object] = {"batch": Dim("batch", min=1)}
        shapes = tuple(_named(dims, named, lengths) for dims in dynamic_dims)
        try:
            with one_pass_over_operators():
                exported = symbolic_trace.export(_Positional(module), example_inputs, "tensors", shapes)
                return exported.run_decompositions({})
        except Exception as error:  # torch.export raises dozens of types
            failure = failure or error
        if all(set(dims) <= {0} for dims in dynamic_dims):
            break
    raise CaptureError(f"{name} cannot be exported: {explain(failure)}") from failure


def _named(dims: dict[int, str], named: dict[str, object], lengths: bool) -> dict[int, object]:
    """Turn expressions into torch.export's: one shared ``Dim`` a name; anything composed is inferred."""
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
    """Name the innermost of the user's modules around a captured or exported node, such as ``'layer1.0' (Block)``."""
    calls = list((node.meta.get("nn_module_stack") or {}).values())
    if not calls:
        return None
    path, kind = calls[-1]
    name = re.sub(r"^(module|model)(\.|$)", "", re.sub(r"^module(\.|$)", "", path))
    kind = (kind if isinstance(kind, str) else kind.__qualname__).rpartition(".")[2]
    return f"'{name}' ({kind})" if name else kind


def origin_of_exported(node: fx.Node, module: nn.Module) -> str | None:
    """Name the user's module behind a node that `export_program` made of a module.

    Args:
        node: Of the exported program.
        module: What was exported; a segment is a graph already, whose nodes know where they come from.

    Returns:
        As `origin`; None where it is not known.
    """
    body = getattr(module, "body", None)
    if not isinstance(body, fx.GraphModule):
        return origin(node)
    # the last line of the trace is one of the segment's code, which assigns to the name of its own node
    names = re.findall(r"^\s*(\w+) = ", node.meta.get("stack_trace") or "", re.MULTILINE)[-1:]
    return next((inner.meta.get(ORIGIN) for inner in body.graph.nodes if inner.name in names), None)
