"""What decides a model's answers, as one number: its code, its structure, its weights, and the libraries beneath."""

import functools
import inspect
import itertools
import json
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from ..digest import array_fingerprint, digest
from ..passes.own_code import load_function

_PACKAGE = Path(__file__).parents[1]
_LIBRARIES = ("torch", "onnx", "onnxscript", "numpy", "timm", "transformers")


def module_fingerprint(module: nn.Module) -> str:
    """Return a sum over a module's classes and the files they stand in, its plain attributes and all its tensors.

    Args:
        module: Any module.

    Returns:
        64 hexadecimal digits; the same for the same model in another process.
    """
    structure = [
        (name, type(part).__module__, type(part).__qualname__, part.extra_repr(), _plain(vars(part)))
        for name, part in module.named_modules()
    ]
    files = {_source_file(type(part)) for part in module.modules()} - {None}
    tensors = itertools.chain(module.named_parameters(), module.named_buffers())
    return digest(
        json.dumps(structure),
        sorted(_file_sum(path) for path in files),
        [part for name, tensor in tensors for part in (name, *_tensor(tensor))],
    )


@functools.cache
def surroundings() -> str:
    """Return a sum over this project's code, the libraries that export and run models, and the kind of processor."""
    own = sorted(_PACKAGE.rglob("*.py"))
    return digest(
        [digest(str(path.relative_to(_PACKAGE)), path.read_bytes()) for path in own],
        [*(f"{name} {metadata.version(name)}" for name in _LIBRARIES), f"onnxruntime {onnxruntime.__version__}"],
        [sys.platform, platform.machine(), torch.backends.cpu.get_cpu_capability()],
    )


@functools.cache
def training_surroundings() -> str:
    """Return a sum over the code that prunes and trains, its libraries, and the kind of processor."""
    passes = _PACKAGE / "passes"
    own = sorted([*passes.glob("pruning/*.py"), passes / "training.py", passes / "augment.py"])
    libraries = [f"{name} {metadata.version(name)}" for name in ("torch", "torch-pruning")]
    return digest([_file_sum(path) for path in own], libraries, torch.backends.cpu.get_cpu_capability())


def function_fingerprint(name: str) -> str:
    """Return a sum over a function as a recipe names it, and over the file that it stands in.

    Args:
        name: ``file.py:function``, ``package.module:function``, or a name that this project knows.
    """
    if ":" not in name:
        return digest(name)
    path = inspect.getsourcefile(inspect.unwrap(load_function(name)))
    return digest(name.rpartition(":")[2], *([_file_sum(path)] if path else []))


def _tensor(tensor: torch.Tensor) -> tuple[str, str, bytes]:
    whole = tensor.detach().cpu().contiguous()
    return str(whole.dtype), str(tuple(whole.shape)), whole.view(-1).view(torch.uint8).numpy().tobytes()


def _plain(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    # what a module's own forward may read besides parameters: numbers, texts, lists of them, arrays, ONNX files
    kinds = (bool, int, float, str, type(None))
    kept = {}
    for key, value in values.items():
        items = value if isinstance(value, tuple | list) else [value]
        if all(isinstance(item, kinds) for item in items):
            kept[key] = repr(value)
        elif isinstance(value, torch.Tensor):
            kept[key] = digest(*_tensor(value))
        elif isinstance(value, np.ndarray):
            kept[key] = array_fingerprint(value)
        elif isinstance(value, onnx.ModelProto):
            kept[key] = digest(value.SerializeToString())
    return sorted(kept.items())


def _source_file(kind: type) -> str | None:
    try:
        return inspect.getsourcefile(kind)
    except (TypeError, OSError):  # made in memory, or compiled
        return None


def _file_sum(path: str) -> str:
    return digest(Path(path).read_bytes())
