"""Dynamic torch models that are saved from memory: a folder with a manifest and one archive per part."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from ..chain.spec import ChainSpec, by_role
from ..chain.walk import Runnable, Step, walk
from ..core.atomic_write import atomic_write
from ..core.placement import device_of
from ..errors import ExportError, OutputError, first_line
from ..graph import export_program
from ..runtime.archive import pack, unpack
from ..runtime.model import DynamicExitModel
from ..trust.json_file import read_json
from .folder import check_files
from .input_specs import describe_tensor
from .layout import with_files
from .manifest import CONFIG_FILE, MODEL_TYPE, Manifest, infer_task, read_manifest
from .runner import load_chain
from .version1 import SAVED_MODEL_FILE, upgrade_saved


def save_model(model: DynamicExitModel, folder: str | Path, example_inputs: Sequence[Tensor]) -> None:
    """Write a dynamic model to a folder.

    Args:
        model: On any device; it is loaded on the CPU.
        folder: A new or empty folder, for ``config.json`` and one ``.pt2`` per part.
        example_inputs: The model's inputs in order, of two rows or more.

    Raises:
        OutputError: The folder is not empty.
        CaptureError: A part cannot be exported.
    """
    inputs = tuple(each.to(device_of(model)) for each in example_inputs)
    # all parts are exported before any is written, so that a failure leaves no incomplete folder
    save_parts(Path(folder), model.spec, _programs(model, inputs), inputs, model.thresholds)


def save_parts(
    folder: Path,
    spec: ChainSpec,
    programs: Mapping[str, ExportedProgram],
    example_inputs: Sequence[Tensor],
    thresholds: Sequence[float] | None = None,
) -> None:
    """Write exported parts and their manifest.

    Args:
        folder: New or empty.
        spec: Their chain.
        programs: Role -> part.
        example_inputs: The model's inputs in order, batch first.
        thresholds: One per stage; None for a backbone alone.

    Raises:
        OutputError: The folder is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"'{folder}' is not an empty folder; give a new one")
    folder.mkdir(parents=True, exist_ok=True)
    files = {role: f"{role}.pt2" for role in programs}
    for role, program in programs.items():
        with atomic_write(folder / files[role]) as file:
            file.write(pack(program))
    inputs = tuple(describe_tensor(name, each) for name, each in zip(spec.inputs, example_inputs, strict=True))
    manifest = Manifest(
        task=infer_task(inputs),
        inputs=inputs,
        chain=spec,
        stages=spec.names,
        thresholds=None if thresholds is None else tuple(thresholds),
        layout="segments",
        target="torch",
    )
    manifest = with_files(manifest, folder, files, [folder / name for name in files.values()])
    with atomic_write(folder / CONFIG_FILE) as file:
        file.write((json.dumps({"model_type": MODEL_TYPE, **manifest.to_json()}, indent=1) + "\n").encode())


def _programs(model: DynamicExitModel, inputs: tuple[Tensor, ...]) -> dict[str, ExportedProgram]:
    """Export every part on the values that reach it; the result is by role."""
    calls: list[tuple[Step, Runnable, list[Tensor]]] = []

    def keep_call(step: Step, part: Runnable, values: Sequence[Tensor]) -> Tensor:
        cast(nn.Module, part.run).eval()
        calls.append((step, part, list(values)))
        return cast(Tensor, part.run(*values))

    with torch.no_grad():
        steps = model.steps()
        walk(steps, dict(zip(model.input_names, inputs, strict=True)), call=keep_call)
        roles = _roles(steps)
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
            programs[roles[id(part)]] = export_program(cast(nn.Module, part.run), values, stated)
            if step.kind == "segment" and not is_tap and step.place + 1 < len(model.segments):
                following = model.segments[step.place + 1]
                names, shapes = (getattr(following, key, ()) for key in ("input_names", "dynamic_dims"))
                dims |= dict(zip(names, shapes, strict=False))
    return programs


def _roles(steps: Sequence[Step]) -> dict[int, str]:
    """Return the role of every part by its identity."""
    segments, savers, exits = (
        [step.part for step in steps if step.kind == kind] for kind in ("segment", "saver", "exit")
    )
    named = by_role(segments, savers, exits, (step.tap for step in steps if step.tap is not None))
    return {id(part): role for role, part in named.items()}


def load_model(folder: str | Path) -> DynamicExitModel:
    """Read a dynamic model from a folder of `save_model`.

    Args:
        folder: The folder.

    Returns:
        A model with the same parts and thresholds.

    Raises:
        ExportError: The folder holds no such model, one of a newer version, or a part is missing or altered.
        ModelError: A part is pickled.
    """
    folder = Path(folder)
    if (folder / SAVED_MODEL_FILE).exists():
        values = upgrade_saved(_read(folder / SAVED_MODEL_FILE))
        spec, files, thresholds = ChainSpec.model_validate(values["chain"]), values["files"], values["thresholds"]
    else:
        manifest = read_manifest(folder)
        if manifest.chain is None or manifest.thresholds is None:
            raise ExportError(f"'{folder}' holds no dynamic model that was saved from memory; load it with its class")
        spec, files, thresholds = manifest.chain, manifest.files, manifest.thresholds
        check_files(folder, manifest, files.values())
    model = load_chain(folder, spec, files, unpack)
    model.set_thresholds(thresholds)
    return model


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError) as error:
        raise ExportError(f"'{path}' cannot be read: {first_line(error)}; save the model anew") from error
