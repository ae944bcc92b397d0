"""Fingerprints of models and of the environment that runs them, used in cache keys.

Together they cover whatever decides a model's answers: its code, structure and weights, and the libraries beneath.
"""

import functools
import platform
import re
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import onnxruntime
import torch
from torch import Tensor, nn

from . import distributed
from .code_fingerprint import CodeFingerprint
from .hashing import array_fingerprint, digest
from .user_code import load_function

_PACKAGE = Path(__file__).parents[1]
_IMPORT = re.compile(r"^ *from (\.+)([\w.]*) import (.*)$", re.MULTILINE)
_LIBRARIES = ("torch", "onnx", "onnxscript", "numpy", "timm", "transformers")


def module_fingerprint(module: nn.Module) -> str:
    """Return the fingerprint of a module: its structure, plain attributes, tensors and code.

    Args:
        module: Any module.

    Returns:
        64 hexadecimal digits; the same for the same model in another process.
    """
    code = CodeFingerprint()
    parts = code.module_parts(module)
    return digest(parts, code.sum())


def classifier_fingerprint(classifier: nn.Module, inputs: Sequence[Tensor]) -> str:
    """Return `module_fingerprint` combined with answers, which also change with files that the model reads as it runs.

    Args:
        classifier: In evaluation mode.
        inputs: At least two samples, as it takes them.

    Returns:
        64 hexadecimal digits; the same for the same model on the same type of processor.
    """
    with torch.no_grad():
        logits = classifier(*inputs).double()
    # rounded to three digits: the last ones depend on the number of threads
    largest = float(logits.abs().max())
    answers = (logits / (largest or 1.0) * 1000).round().long()
    return digest(module_fingerprint(classifier), f"{largest:.2e}", array_fingerprint(answers.numpy()))


@functools.cache
def environment_fingerprint(*places: str) -> str:
    """Return the fingerprint of the code behind a result, the libraries beneath it, and the processor type.

    Args:
        *places: The folders or files of this package that make the result, such as ``pipeline``. The rooms
            that they import count as wholes, those that these import too, and so on.
    """
    return digest(
        [digest(str(path.relative_to(_PACKAGE)), path.read_bytes()) for path in code_behind(places)],
        [*(f"{name} {metadata.version(name)}" for name in _LIBRARIES), f"onnxruntime {onnxruntime.__version__}"],
        [sys.platform, platform.machine(), torch.backends.cpu.get_cpu_capability()],
    )


def training_environment_fingerprint() -> str:
    """Return the fingerprint of the code that prunes and trains, its libraries, and the types of the processors."""
    return digest(environment_fingerprint("passes"), metadata.version("torch-pruning"), str(distributed.device().type))


def code_behind(places: Sequence[str], package: Path = _PACKAGE) -> list[Path]:
    """Return the files of some folders or files of a package, and those of all rooms that they import, and so on.

    Imports run downward only, so that rooms above the places are left out; which of a room's modules is imported is
    not asked, as registries and lazy names import others of them.

    Args:
        places: Relative to the package, such as ``passes`` or ``pipeline/backbone.py``.
        package: Folder of the package.
    """
    found: dict[str, list[Path]] = {}
    todo = list(places)
    while todo:
        place = todo.pop()
        if place in found or not (package / place).exists():
            continue
        files = [package / place] if place.endswith(".py") else sorted((package / place).rglob("*.py"))
        found[place] = files
        for path in files:
            depth = len(path.relative_to(package).parts)
            for dots, module, names in _IMPORT.findall(path.read_text(encoding="utf-8")):
                if len(dots) == depth:  # from the package itself
                    rooms = [module] if module else re.findall(r"\w+", names)
                    todo += [f"{room.partition('.')[0]}{end}" for room in rooms for end in ("", ".py")]
    return sorted({path for files in found.values() for path in files})


def function_fingerprint(name: str) -> str:
    """Return the fingerprint of a function that a recipe names, and of all user code that it may call.

    Args:
        name: ``file.py:function``, ``package.module:function``, or a built-in name.
    """
    if ":" not in name:
        return digest(name)
    code = CodeFingerprint()
    return digest(name.rpartition(":")[2], code.value(load_function(name)), code.sum())
