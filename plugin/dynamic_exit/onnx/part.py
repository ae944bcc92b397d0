"""Parts: the pieces that a dynamic ONNX file is made of, each a small model of its own."""

import io
import logging
import re
import warnings
from collections.abc import Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from functools import cache, partial

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from ..errors import ExportError, first_line
from ..graph import export_program
from ..graph.export import origin_of_exported
from ..graph.operator_tables import one_pass_over_operators
from .names import rename

#: How the free batch dimension is named in every file.
BATCH = "batch"
#: Version of ONNX's own operators and of its format that every part has: one file has one version.
OPSET, IR_VERSION = 20, 10
#: How every part's one output is named; a segment may both take and give a hidden state.
OUTPUT = "output"


@dataclass(frozen=True)
class Part:
    """One saver, segment or exit head as an ONNX model.

    Attributes:
        name: Unique among the parts of a file.
        proto: The model; its inputs are called as in `input_names`, its one output `output`.
        input_names: Names of the inputs: ``hidden`` is the output of the previous segment, any other name an input of
            the model.
        output_kind: What the output is: ``hidden`` or ``logits``.
    """

    name: str
    proto: onnx.ModelProto
    input_names: tuple[str, ...]
    output_kind: str

    def with_proto(self, proto: onnx.ModelProto) -> "Part":
        """Return the same part with other numerics."""
        return replace(self, proto=proto)

    @property
    def content(self) -> bytes:
        """The model as it is written."""
        return self.proto.SerializeToString()

    @property
    def size(self) -> int:
        """Bytes of `content`."""
        return self.proto.ByteSize()

    @property
    def runtime(self) -> str:
        """What runs it."""
        return f"onnxruntime {onnxruntime.__version__}"

    @property
    def output_shape(self) -> tuple[int | str, ...]:
        """Shape that the part gives, without the batch dimension; a free dimension is its name."""
        dims = self.proto.graph.output[0].type.tensor_type.shape.dim
        return tuple(d.dim_value if d.HasField("dim_value") else d.dim_param for d in dims)[1:]


def export_part(
    name: str,
    module: nn.Module,
    input_names: Sequence[str],
    output_kind: str,
    example_inputs: Sequence[Tensor],
    dynamic_dims: Sequence[dict[int, str]] | None = None,
) -> Part:
    """Export one stage's module to ONNX.

    Args:
        name: What the part is called.
        module: Takes `example_inputs` positionally and returns one tensor, batch first.
        input_names: Names for the inputs, as many as `example_inputs`.
        output_kind: What the output is: ``hidden`` or ``logits``.
        example_inputs: Tensors with a batch of at least 2.
        dynamic_dims: For each input its free dimensions, index -> name; None takes those that the module states. The
            batch is always free.

    Returns:
        The part, with a free batch dimension.

    Raises:
        ExportError: An operator has no ONNX counterpart, or a dimension cannot be free.
    """
    imported = getattr(module, "model", None)
    if hasattr(imported, "compose_part"):  # a candidate that came as an ONNX file, which torch cannot trace
        return imported.compose_part(name, module, input_names, example_inputs)
    if dynamic_dims is None:
        dynamic_dims = getattr(module, "dynamic_dims", None) or [{}] * len(example_inputs)
    program = export_program(module, tuple(example_inputs), dynamic_dims)
    try:
        with _quiet(), _one_table(), one_pass_over_operators():
            proto = torch.onnx.export(program, dynamo=True, verbose=False, opset_version=OPSET).model_proto
    except torch.onnx.errors.OnnxExporterError as error:
        reason = _reason(error, program, module)
        raise ExportError(f"stage '{name}' cannot be exported to ONNX: {reason}; leave this stage out") from error
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    graph = proto.graph
    strip(graph)
    _rename(graph, [value.name for value in graph.input], list(input_names))
    _rename(graph, [graph.output[0].name], [OUTPUT])
    _name_dimensions(name, graph, dynamic_dims)
    return Part(name, proto, tuple(input_names), output_kind)


@contextmanager
def _quiet():
    """Keep the exporter's progress lines and warnings away from the user's terminal."""
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


@contextmanager
def _one_table():
    """Keep the exporter's table of operators for the next part: it makes one for every call, in half of its time."""
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        make = ONNXRegistry.__dict__["from_torchlib"]
    except (ImportError, KeyError):  # torch promises neither; without them a part only takes longer
        yield
        return
    ONNXRegistry.from_torchlib = staticmethod(partial(_table, make.__get__(None, ONNXRegistry)))
    try:
        yield
    finally:
        ONNXRegistry.from_torchlib = make


@cache
def _table(make, opset_version: int):
    return make(opset_version=opset_version)


def _reason(error: BaseException, program: torch.export.ExportedProgram, module: nn.Module) -> str:
    """Say which operator is in the way and where it comes from, else what the exporter says."""
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    names = [name for cause in causes for name in re.findall(r"translating node %(\w+)", str(cause))]
    said = first_line(causes[-1])
    # the exporter itself takes operators apart first
    nodes = (node for form in (lambda: program, program.run_decompositions) for node in form().graph.nodes)
    node = next((node for node in nodes if node.name in names[-1:]), None) if names else None
    if node is None:
        return said
    place = origin_of_exported(node, module)
    what = f"operator '{node.target}'" + (f" of module {place}" if place else "")
    return f"{what} has no counterpart there" if said.startswith("No ONNX function") else f"{what}: {said}"


def strip(graph: onnx.GraphProto) -> None:
    """Remove what the exporter notes of this machine: stack traces with paths, which also make files large."""
    for item in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")


def _rename(graph: onnx.GraphProto, old: list[str], new: list[str]) -> None:
    """Rename values at the graph's border; the exporter's names of inner values never equal the new ones."""
    names = dict(zip(old, new, strict=True))
    taken = {output for node in graph.node for output in node.output} | {t.name for t in graph.initializer}
    for name in set(new) - set(old):
        if name in taken:
            names[name] = f"{name}_inner"
    rename(graph, lambda name: names.get(name, name))


def _name_dimensions(name: str, graph: onnx.GraphProto, dynamic_dims: Sequence[dict[int, str]]) -> None:
    """Give free dimensions the same names in every part, so that all parts of a file speak of the same ones."""
    names: dict[str, str] = {}
    for value, dims in zip(graph.input, dynamic_dims, strict=True):
        sides = value.type.tensor_type.shape.dim
        for place, side in ({0: BATCH} | dims).items():
            found = sides[place].dim_param or str(sides[place].dim_value)
            if found.isdigit():  # the exporter writes some constants as if they were names
                raise ExportError(
                    f"stage '{name}' takes {value.name} of {found} in dimension {place} alone, where the backbone "
                    f"leaves '{side}' free; leave this stage out"
                )
            names.setdefault(found, side)
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in names:
                dim.dim_param = names[dim.dim_param]
