"""Checkpoints of a training: one safetensors file whose header holds everything else as JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ...core import distributed
from ...core.atomic_write import atomic_write
from ...errors import PassError


class TrainingState(TypedDict):
    """What a checkpoint holds besides tensors.

    Attributes:
        epoch: Number of finished epochs.
        best: Lowest validation loss of each part.
        best_epoch: Epoch of that loss, for each part.
        settings: Identify the training.
    """

    epoch: int
    best: list[float]
    best_epoch: list[int]
    settings: Mapping[str, object]


@dataclass(frozen=True)
class TrainingCheckpoint:
    """Where a training saves its progress.

    Attributes:
        path: The file.
        settings: Identify the training: one with other settings is not continued.
    """

    path: Path
    settings: Mapping[str, object]


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], state: TrainingState) -> None:
    """Write a checkpoint atomically.

    Args:
        path: The file; its folder is created.
        tensors: Tensors by name.
        state: Everything else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with atomic_write(path) as file:
        file.write(save(values, metadata={"state": json.dumps(state)}))


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], TrainingState]:
    """Read a checkpoint; of several processes the main one reads it for all.

    Raises:
        PassError: The file is no checkpoint.
    """
    try:
        content = distributed.run_on_main(path.read_bytes, bytes, bytes)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return load(content), json.loads(header["__metadata__"]["state"])
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise PassError(f"checkpoint '{path}' cannot be read; remove it, or run without resume") from error


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimizer's state as tensors named ``index.field``."""
    states: dict[int, dict[str, Tensor]] = optimizer.state_dict()["state"]
    return {f"{index}.{field}": value for index, fields in states.items() for field, value in fields.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore the state that `optimizer_tensors` returned."""
    states: dict[int, dict[str, Any]] = {}
    for name, value in tensors.items():
        index, field = name.split(".")
        states.setdefault(int(index), {})[field] = value
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
