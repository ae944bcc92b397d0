"""What decides a model's answers, as one number: its code, its structure, its weights, and the libraries beneath."""

import functools
import platform
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import onnxruntime
import torch
from torch import Tensor, nn

from .code_fingerprint import CodeFingerprint
from .hashing import array_fingerprint, digest
from .user_code import load_function

_PACKAGE = Path(__file__).parents[1]
_LIBRARIES = ("torch", "onnx", "onnxscript", "numpy", "timm", "transformers")


def module_fingerprint(module: nn.Module) -> str:
    """Return a sum over a module's structure, its plain attributes, all its tensors, and its code.

    Args:
        module: Any module.

    Returns:
        64 hexadecimal digits; the same for the same model in another process.
    """
    walk = CodeFingerprint()
    parts = walk.module_parts(module)
    return digest(parts, walk.sum())


def classifier_fingerprint(classifier: nn.Module, inputs: Sequence[Tensor]) -> str:
    """Return a sum as `module_fingerprint` does, and over answers: what it reads as it runs may have changed.

    Args:
        classifier: In evaluation mode.
        inputs: Two samples or more, as it takes them.

    Returns:
        64 hexadecimal digits; the same for the same model on the same kind of processor.
    """
    with torch.no_grad():
        logits = classifier(*inputs).double()
    # to three digits: the last ones hang on the number of threads
    largest = float(logits.abs().max())
    answers = (logits / (largest or 1.0) * 1000).round().long()
    return digest(module_fingerprint(classifier), f"{largest:.2e}", array_fingerprint(answers.numpy()))


@functools.cache
def environment_fingerprint() -> str:
    """Return a sum over this project's code, the libraries that export and run models, and the kind of processor."""
    own = sorted(_PACKAGE.rglob("*.py"))
    return digest(
        [digest(str(path.relative_to(_PACKAGE)), path.read_bytes()) for path in own],
        [*(f"{name} {metadata.version(name)}" for name in _LIBRARIES), f"onnxruntime {onnxruntime.__version__}"],
        [sys.platform, platform.machine(), torch.backends.cpu.get_cpu_capability()],
    )


@functools.cache
def training_environment_fingerprint() -> str:
    """Return a sum over the code that prunes and trains, its libraries, and the kind of processor."""
    passes = _PACKAGE / "passes"
    own = sorted([*passes.glob("pruning/*.py"), passes / "training.py", passes / "augment.py"])
    libraries = [f"{name} {metadata.version(name)}" for name in ("torch", "torch-pruning")]
    return digest([_file_sum(path) for path in own], libraries, torch.backends.cpu.get_cpu_capability())


def function_fingerprint(name: str) -> str:
    """Return a sum over a function as a recipe names it, and over all code of the user's that it may run.

    Args:
        name: ``file.py:function``, ``package.module:function``, or a name that this project knows.
    """
    if ":" not in name:
        return digest(name)
    walk = CodeFingerprint()
    return digest(name.rpartition(":")[2], walk.value(load_function(name)), walk.sum())


def _file_sum(path: str) -> str:
    return digest(Path(path).read_bytes())
