"""Export of one stage's torch module to ONNX."""

import io
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Protocol, runtime_checkable

import onnx.inliner
import torch
from torch import Tensor, nn

from ..errors import ExportError, first_line
from ..graph import export_program
from ..graph.export import origin_of_exported
from ..graph.operator_tables import one_pass_over_operators
from ..graph.quick_exporter import quick_exporter
from .names import rename
from .opset import EXPORTED_FROM, OPSET, set_opset
from .part import BATCH, OUTPUT, Part


@runtime_checkable
class _HasParts(Protocol):
    """A model that composes its ONNX part itself, as torch cannot trace it."""

    def compose_part(
        self, name: str, module: nn.Module, input_names: Sequence[str], example_inputs: Sequence[Tensor], opset: int
    ) -> Part: ...


def export_part(
    name: str,
    module: nn.Module,
    input_names: Sequence[str],
    output_kind: str,
    example_inputs: Sequence[Tensor],
    dynamic_dims: Sequence[dict[int, str]] | None = None,
    *,
    opset: int = OPSET,
) -> Part:
    """Export one stage's module to ONNX.

    Args:
        name: Name of the part.
        module: Takes `example_inputs` by position and returns one tensor, batch first.
        input_names: Names of the inputs, as many as `example_inputs`.
        output_kind: What it returns: ``hidden``, ``logits`` or ``memory``.
        example_inputs: Tensors with a batch of at least two.
        dynamic_dims: Free dimensions of each input, index -> name; None takes the module's ``dynamic_dims``, else none.
            The batch is always free.
        opset: Version of ONNX's operators, `opset.OLDEST_OPSET` to `opset.NEWEST_OPSET`.

    Returns:
        The part, with a free batch dimension.

    Raises:
        ExportError: An operator has no counterpart in ONNX or in the opset, or a dimension cannot be free.
    """
    imported = getattr(module, "model", None)
    if isinstance(imported, _HasParts):
        return imported.compose_part(name, module, input_names, example_inputs, opset)
    if dynamic_dims is None:
        dynamic_dims = getattr(module, "dynamic_dims", None) or [{}] * len(example_inputs)
    program = export_program(module, tuple(example_inputs), dynamic_dims, functional=False)
    try:
        with _quiet(), quick_exporter(), one_pass_over_operators():
            exported = torch.onnx.export(program, dynamo=True, verbose=False, opset_version=max(opset, EXPORTED_FROM))
    except torch.onnx.errors.OnnxExporterError as error:
        reason = _reason(error, program, module)
        raise ExportError(f"stage '{name}' cannot be exported to ONNX: {reason}; leave this stage out") from error
    assert exported is not None  # as it is given no file to write
    proto = exported.model_proto
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    set_opset(proto, opset, name)
    graph = proto.graph
    strip(graph)
    _rename(graph, [value.name for value in graph.input], list(input_names))
    _rename(graph, [graph.output[0].name], [OUTPUT])
    _name_dimensions(name, graph, dynamic_dims)
    return Part(name, proto, tuple(input_names), output_kind)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporter's progress lines and warnings."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _reason(error: BaseException, program: torch.export.ExportedProgram, module: nn.Module) -> str:
    """Return which operator cannot be exported and where it comes from, else the exporter's message."""
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    names = [name for cause in causes for name in re.findall(r"translating node %(\w+)", str(cause))]
    said = first_line(causes[-1])
    # the exporter decomposes operators first
    nodes = (node for form in (lambda: program, program.run_decompositions) for node in form().graph.nodes)
    node = next((node for node in nodes if node.name in names[-1:]), None) if names else None
    if node is None:
        return said
    place = origin_of_exported(node, module)
    what = f"operator '{node.target}'" + (f" of module {place}" if place else "")
    return f"{what} has no counterpart there" if said.startswith("No ONNX function") else f"{what}: {said}"


def strip(graph: onnx.GraphProto) -> None:
    """Remove the exporter's metadata: stack traces with paths of this machine, which also make files large."""
    for item in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")


def _rename(graph: onnx.GraphProto, old: list[str], new: list[str]) -> None:
    """Rename inputs or outputs of a graph; inner values with one of the new names get a suffix."""
    names = dict(zip(old, new, strict=True))
    taken = {output for node in graph.node for output in node.output} | {t.name for t in graph.initializer}
    for name in set(new) - set(old):
        if name in taken:
            names[name] = f"{name}_inner"
    rename(graph, lambda name: names.get(name, name))


def _name_dimensions(name: str, graph: onnx.GraphProto, dynamic_dims: Sequence[dict[int, str]]) -> None:
    """Give free dimensions the same names in all parts of a file."""
    names: dict[str, str] = {}
    for value, dims in zip(graph.input, dynamic_dims, strict=True):
        sides = value.type.tensor_type.shape.dim
        for place, side in ({0: BATCH} | dims).items():
            found = sides[place].dim_param or str(sides[place].dim_value)
            if found.isdigit():  # the exporter writes some constants as names
                raise ExportError(
                    f"stage '{name}' takes {value.name} of {found} in dimension {place} alone, where the backbone "
                    f"leaves '{side}' free; leave this stage out"
                )
            names.setdefault(found, side)
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in names:
                dim.dim_param = names[dim.dim_param]
