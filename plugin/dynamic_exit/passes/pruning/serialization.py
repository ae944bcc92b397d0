"""A pruned model as files, without pickle: its tensors, and the attributes of its modules that pruning changed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from ...core.atomic_write import atomic_write
from ...errors import ModelError, OutputError, first_line

#: The files of a pruned model.
WEIGHTS, CHANGES = "weights.safetensors", "pruned.json"
_TYPE, _VERSION = "dynamic_exit.pruned_model", 1


def pack_pruned(pruned: nn.Module, original: nn.Module) -> dict[str, bytes]:
    """Return a pruned model as files, by name.

    Args:
        pruned: The pruned model, perhaps trained since.
        original: The unpruned model, or one of the same architecture.

    Raises:
        ModelError: Their modules have different names.
    """
    before = dict(original.named_modules())
    if [*before] != [name for name, _ in pruned.named_modules()]:
        raise ModelError("the model to save is not made of the given original: their modules have other names")
    changes = {name: changed for name, part in pruned.named_modules() if (changed := _changed(part, before[name]))}
    described = {"_type": _TYPE, "_version": _VERSION, "changes": changes}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in _tensors(pruned).items()}
    return {WEIGHTS: safetensors.torch.save(tensors), CHANGES: (json.dumps(described, indent=1) + "\n").encode()}


def unpack_pruned(model: nn.Module, files: Mapping[str, bytes], where: str = "these files") -> nn.Module:
    """Turn a model into the pruned one that was packed.

    Args:
        model: Of the architecture of the original, with any weights; it is changed in place.
        files: Of `pack_pruned`.
        where: Origin of the files, for messages.

    Returns:
        The model in evaluation mode; its outputs are bitwise those of the packed one.

    Raises:
        ModelError: The files are damaged, of another version, or of another model.
    """
    try:
        described = json.loads(files[CHANGES])
        tensors = safetensors.torch.load(files[WEIGHTS])
    except Exception as error:  # JSON and safetensors raise different classes
        raise ModelError(f"{where} hold no pruned model: {first_line(error)}; save it anew") from error
    if not isinstance(described, dict) or (described.get("_type"), described.get("_version")) != (_TYPE, _VERSION):
        came = described.get("_version") if isinstance(described, dict) else described
        raise ModelError(f"{where} are of version {came} of {_TYPE}; this version reads {_VERSION}")
    parts = dict(model.named_modules())
    own, missing = _tensors(model), f"{where} are of another model than {type(model).__name__}: it has no"
    for name in described["changes"]:
        if name not in parts:
            raise ModelError(f"{missing} module '{name}'")
    for name in [*tensors, *own]:
        if name not in tensors or name not in own or tensors[name].dim() != own[name].dim():
            raise ModelError(f"{where} are of another model than {type(model).__name__}: see tensor '{name}'")
    for name, changed in described["changes"].items():
        for attribute, value in changed.items():
            setattr(parts[name], attribute, tuple(value) if isinstance(value, list) else value)
    for name, tensor in tensors.items():
        own[name].data = tensor.to(own[name].device)
    return model.eval()


def save_pruned(pruned: nn.Module, original: nn.Module, folder: str | Path) -> None:
    """Write a pruned model.

    Args:
        pruned: The pruned model.
        original: The unpruned model, or one of the same architecture.
        folder: New or empty; ``weights.safetensors`` and ``pruned.json`` are written to it.

    Raises:
        ModelError: Their modules have different names.
        OutputError: The folder is not empty, or cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"'{folder}' is not an empty folder; give a new one")
    files = pack_pruned(pruned, original)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            with atomic_write(folder / name) as file:
                file.write(content)
    except OSError as error:
        raise OutputError(f"'{folder}' cannot be written: {error.strerror or error}") from error


def load_pruned(model: nn.Module, folder: str | Path) -> nn.Module:
    """Turn a model into the pruned one that `save_pruned` wrote.

    Args:
        model: Of the architecture of the original, with any weights; it is changed in place.
        folder: That `save_pruned` wrote.

    Returns:
        The model in evaluation mode; its outputs are bitwise those of the saved one.

    Raises:
        ModelError: The folder holds no pruned model, or one of another model.
    """
    folder = Path(folder)
    try:
        files = {name: (folder / name).read_bytes() for name in (WEIGHTS, CHANGES)}
    except OSError as error:
        raise ModelError(f"'{folder}' holds no pruned model: {error.strerror or error}; check the path") from error
    return unpack_pruned(model, files, f"the files in '{folder}'")


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return dict([*model.named_parameters(), *model.named_buffers()])


def _changed(part: nn.Module, before: nn.Module) -> dict[str, Any]:
    """Return the integer attributes, and sequences of integers, that differ between two modules."""
    now = {name: value for name, value in vars(part).items() if _is_plain(value)}
    return {name: value for name, value in now.items() if getattr(before, name, None) != value}


def _is_plain(value: Any) -> bool:
    items = value if isinstance(value, tuple | list) else [value]
    return bool(items) and all(isinstance(item, int) and not isinstance(item, bool) for item in items)
