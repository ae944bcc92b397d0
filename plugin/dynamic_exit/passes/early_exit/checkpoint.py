"""Checkpoints of a training: one safetensors file, whose header holds the rest as JSON."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ...core import distributed
from ...core.atomic_write import written_whole
from ...errors import PassError


def save_checkpoint(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        path: The file; its folder is made.
        tensors: Any tensors by name.
        state: Anything that JSON can say.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with written_whole(path) as file:
        file.write(save(values, metadata={"state": json.dumps(state)}))


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint; of processes that work together the main one reads it and tells the others.

    Raises:
        PassError: The file is none.
    """
    try:
        content = distributed.led(path.read_bytes, bytes, bytes)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return load(content), json.loads(header["__metadata__"]["state"])
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise PassError(f"checkpoint '{path}' cannot be read; remove it, or run without resume") from error


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimizer's state as tensors named ``index.field``."""
    states = optimizer.state_dict()["state"]
    return {f"{index}.{field}": value for index, fields in states.items() for field, value in fields.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, field = name.split(".")
        states.setdefault(int(index), {})[field] = value
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
