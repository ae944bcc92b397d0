"""Archives of ``torch.export`` without pickle: one part of a model each."""

import io
import json
import logging
import re
import typing
import zipfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self
from unittest import mock

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.passes import move_to_device_pass

from ..errors import ModelError, first_line
from ..graph import constants_follow, free_layout

# all files that a torch.export archive needs; older formats and custom objects are pickled
_HARMLESS = re.compile(
    r"archive_format|archive_version|byteorder|version|\.data/\w+|\.format_version|\.storage_alignment|models/model\.json"
    r"|data/weights/weight_\d+|data/constants/tensor_\d+|data/(weights|constants)/model_(weights|constants)_config\.json"
    r"|data/sample_inputs/model\.pt"
)
# keys in nodes' metadata with files and modules of this machine, which nothing reads
_TRACES = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")


class ArchivedPart(nn.Module):
    """A segment, saver, tap or head of a saved model, always in evaluation mode.

    Attributes:
        input_names: Names of the arguments of ``forward``, as in ``graph.Segment``.
        width: Size of the last dimension of its output; None if unknown.
        example: The tensors that it was exported with, of two rows each.
    """

    input_names: tuple[str, ...]

    def __init__(
        self, body: nn.Module, input_names: Sequence[str] | None = None, program: ExportedProgram | None = None
    ):
        super().__init__()
        self.body = body
        self.width: int | None = None
        self.example: tuple[Tensor, ...] = ()
        if input_names is not None:
            self.input_names = tuple(input_names)
        if program is not None:
            self.width = int(program.graph.output_node().args[0][0].meta["val"].shape[-1])
            self.example = tuple(program.example_inputs[0])
        for module in self.modules():
            module.training = False

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: an exported body refuses to change it."""
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        with constants_follow(self):
            return super()._apply(fn, recurse)

    def forward(self, *tensors: Tensor) -> Tensor:
        """Run the part: positional tensors in, one tensor out."""
        return self.body(*tensors)


def pack(program: ExportedProgram) -> bytes:
    """Return a program as the bytes of an archive, the same bytes for the same program.

    The archive holds no samples and nothing about this machine; it is loaded on the CPU, wherever the program was.

    Args:
        program: As `graph.export_program` returns it.
    """
    if any(tensor.device.type != "cpu" for tensor in (*program.state_dict.values(), *program.example_inputs[0])):
        program = move_to_device_pass(program, "cpu")
    for node in program.graph.nodes:
        if isinstance(node.kwargs.get("device"), str):  # moved programs name it so, which no later move would find
            node.kwargs = {**node.kwargs, "device": torch.device(node.kwargs["device"])}
        for key in _TRACES:
            node.meta.pop(key, None)
    examples = [(torch.zeros_like if each.is_floating_point() else torch.ones_like)(each, device="cpu")
                for each in program.example_inputs[0]]  # fmt: skip
    program.example_inputs = (tuple(examples), {})
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()


def unpack(source: bytes | Path, input_names: Sequence[str] | None, name: str = "") -> ArchivedPart:
    """Return the part in an archive of `pack`.

    Args:
        source: The archive's bytes, or its file.
        input_names: Names of the part's arguments; None leaves them unset.
        name: Name of the source in messages; by default the path.

    Raises:
        ModelError: The archive cannot be read, or holds pickled objects.
    """
    program = _program(source, name or str(source))
    body = free_layout(program.module(check_guards=False))
    # the hooks check sizes that tracing assumed, such as at least 3 tokens, although fewer work as well
    body._forward_pre_hooks.clear()
    body._forward_pre_hooks_with_kwargs.clear()
    return ArchivedPart(body, input_names, program)


def _program(source: bytes | Path, name: str) -> ExportedProgram:
    import torch.ao.quantization.fx._decomposed  # noqa: F401  registers the operators of quantized archives

    logger = logging.getLogger("torch._export.serde.serialize")  # it warns about unused symbols
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        _refuse_pickles(_readable(source), name)
        with _hints_evaluated_once():
            return torch.export.load(_readable(source))
    except ModelError:
        raise
    except Exception as failure:  # damaged archives raise dozens of types
        raise ModelError(f"'{name}' cannot be read as a torch.export archive: {first_line(failure)}") from failure
    finally:
        logger.setLevel(level)


def _hints_evaluated_once() -> AbstractContextManager[object]:
    """Inside, torch evaluates the types of its records once a class, not once a record: a quarter of the time."""
    known: dict[Any, dict[str, Any]] = {}

    def get_type_hints(kind: Any, **names: Any) -> dict[str, Any]:
        if kind not in known:
            known[kind] = typing.get_type_hints(kind, **names)
        return known[kind]

    try:
        from torch._export.serde import serialize
    except ImportError:  # torch promises no such module; without it this only takes longer
        return nullcontext()
    replaced = SimpleNamespace(**{**vars(typing), "get_type_hints": get_type_hints})
    return mock.patch.object(serialize, "typing", replaced) if hasattr(serialize, "typing") else nullcontext()


def _readable(source: bytes | Path) -> io.BytesIO | Path:
    return io.BytesIO(source) if isinstance(source, bytes) else source


def _refuse_pickles(source: io.BytesIO | Path, name: str) -> None:
    """Refuse an archive with pickles before torch reads it, which would unpickle weights that the archive says are."""
    refusal = f"'{name}' holds pickled objects, which can run any code; save the model anew"
    with zipfile.ZipFile(source) as archive:
        for full in archive.namelist():
            entry = full.partition("/")[2]
            if not _HARMLESS.fullmatch(entry):
                raise ModelError(f"{refusal} ({entry})")
            if entry.endswith("_config.json"):
                entries = json.loads(archive.read(full)).get("config", {})
                if any(each.get("use_pickle") for each in entries.values()):
                    raise ModelError(f"{refusal} ({entry})")
            if entry.startswith("data/sample_inputs/"):
                try:
                    # torch would retry with an unrestricted unpickler
                    torch.load(io.BytesIO(archive.read(full)), weights_only=True)
                except Exception as failure:
                    raise ModelError(f"{refusal} ({entry})") from failure
