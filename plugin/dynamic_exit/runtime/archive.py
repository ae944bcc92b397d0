"""Dynamic torch models in folders without pickle: one ``torch.export`` archive per part."""

import io
import json
import logging
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.passes import move_to_device_pass

from ..chain.spec import head_input_names, saver_input_names
from ..chain.walk import Runnable, Step, walk
from ..core.placement import device_of
from ..errors import ModelError, OutputError, first_line
from ..graph import constants_follow, export_program, free_layout
from .model import DynamicExitModel

_TYPE = "dynamic_exit.torch_model"
_VERSION = 1
#: File that describes the parts; it is written last.
CONFIG = "dynamic_model.json"
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


def save_model(model: DynamicExitModel, folder: str | Path, example_inputs: Sequence[Tensor]) -> None:
    """Write a dynamic model to a folder.

    Args:
        model: On any device; it is loaded on the CPU.
        folder: A new or empty folder, for ``dynamic_model.json`` and one ``.pt2`` per part.
        example_inputs: The model's inputs in order, of two rows or more.

    Raises:
        OutputError: The folder is not empty.
        CaptureError: A part cannot be exported.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"'{folder}' is not an empty folder; give a new one")
    # all parts are exported before any is written, so that a failure leaves no incomplete folder
    parts = _programs(model, tuple(each.to(device_of(model)) for each in example_inputs))
    config = {
        "_type": _TYPE,
        "_version": _VERSION,
        "input_names": model.input_names,
        "fuse": model.fuse,
        "thresholds": [str(value) for value in model.thresholds],
        "segments": [
            {"file": f"segment_{place}.pt2", "takes": names} for place, names in enumerate(model.segment_input_names)
        ],
        "stages": [
            {
                "name": name,
                "position": position,
                "file": f"stage_{place}.pt2",
                "takes": _stage_input_names(model, place),
            }
            for place, (name, position) in enumerate(zip(model.chain, model.positions, strict=True))
        ],
        "notes": [
            {
                "position": place,
                "file": _tap_file(place),
                "takes": head_input_names(tap),
                "width": getattr(tap, "width", None),
            }
            for place, tap in zip(model.tap_positions, model.taps, strict=True)
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, program in parts.items():
        (folder / name).write_bytes(pack(program))
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n")


def _stage_input_names(model: DynamicExitModel, place: int) -> tuple[str, ...]:
    name = model.chain[place]
    module = model.stage_module(name)
    return (
        saver_input_names(module, name, model.input_names) if model.positions[place] < 0 else head_input_names(module)
    )


def _tap_file(place: int) -> str:
    return f"note_{place}.pt2" if place >= 0 else "note_saver.pt2"


def _programs(model: DynamicExitModel, inputs: tuple[Tensor, ...]) -> dict[str, ExportedProgram]:
    """Export every part on the values that reach it; the result is by file name."""
    calls: list[tuple[Step, Runnable, list[Tensor]]] = []

    def keep_call(step: Step, part: Runnable, values: Sequence[Tensor]) -> Tensor:
        cast(nn.Module, part.run).eval()
        calls.append((step, part, list(values)))
        return cast(Tensor, part.run(*values))

    with torch.no_grad():
        walk(model.steps(), dict(zip(model.input_names, inputs, strict=True)), call=keep_call)
        dims: dict[str, dict[int, str]] = {name: {} for name in model.input_names}
        programs = {}
        # segments state the free dimensions of the inputs, so savers come last
        for step, part, values in sorted(calls, key=lambda call: call[0].kind == "saver"):
            is_tap = part is step.tap
            if step.kind == "segment" and not is_tap:
                stated = getattr(part.run, "dynamic_dims", None) or [{}] * len(values)
                dims |= dict(zip(part.input_names, stated, strict=True))
            else:
                stated = [{}] if is_tap and step.kind == "saver" else [dims.get(name, {}) for name in part.input_names]
            programs[_file(step, is_tap)] = export_program(cast(nn.Module, part.run), values, stated)
            if step.kind == "segment" and not is_tap and step.place + 1 < len(model.segments):
                following = model.segments[step.place + 1]
                names, shapes = (getattr(following, key, ()) for key in ("input_names", "dynamic_dims"))
                dims |= dict(zip(names, shapes, strict=False))
    return programs


def _file(step: Step, is_tap: bool) -> str:
    if is_tap:
        return _tap_file(step.place)
    return f"segment_{step.place}.pt2" if step.kind == "segment" else f"stage_{step.index}.pt2"


def load_model(folder: str | Path) -> DynamicExitModel:
    """Read a dynamic model from a folder of ``save_model``.

    Args:
        folder: The folder.

    Returns:
        A model with the same parts and thresholds.

    Raises:
        ModelError: The folder holds no such model, or one of another version, or a part is missing or pickled.
    """
    folder = Path(folder)
    try:
        config = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError) as failure:
        raise ModelError(f"'{folder}' holds no saved dynamic model ({CONFIG}): {failure}") from failure
    if config.get("_type") != _TYPE or config.get("_version") != _VERSION:
        came = f"{config.get('_type')} version {config.get('_version')}"
        raise ModelError(f"'{folder / CONFIG}' is {came}; this version reads {_TYPE} version {_VERSION}")
    savers, exits = {}, {}
    for stage in config["stages"]:
        part = unpack(folder / stage["file"], stage.get("takes"))
        if stage["position"] < 0:
            savers[stage["name"]] = part
        else:
            exits[stage["name"]] = (stage["position"], part)
    taps = {}
    for tap in config.get("notes", ()):
        taps[tap["position"]] = part = unpack(folder / tap["file"], tap["takes"])
        part.width = tap["width"]
    return DynamicExitModel(
        [unpack(folder / each["file"], each["takes"]) for each in config["segments"]],
        input_names=config["input_names"],
        savers=savers,
        exits=exits,
        fuse=config["fuse"],
        thresholds=[float(value) for value in config["thresholds"]],
        taps=taps,
    )


def _program(source: bytes | Path, name: str) -> ExportedProgram:
    import torch.ao.quantization.fx._decomposed  # noqa: F401  registers the operators of quantized archives

    logger = logging.getLogger("torch._export.serde.serialize")  # it warns about unused symbols
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        _refuse_pickles(_readable(source), name)
        return torch.export.load(_readable(source))
    except ModelError:
        raise
    except Exception as failure:  # damaged archives raise dozens of types
        raise ModelError(f"'{name}' cannot be read as a torch.export archive: {first_line(failure)}") from failure
    finally:
        logger.setLevel(level)


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
