"""Fingerprints of models and of the environment that runs them, used in cache keys.

Together they cover whatever decides a model's answers: its code, structure and weights, and the libraries beneath.
"""

import functools
import platform
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
def environment_fingerprint() -> str:
    """Return the fingerprint of this package's code, the libraries beneath it, and the processor type."""
    own = sorted(_PACKAGE.rglob("*.py"))
    return digest(
        [digest(str(path.relative_to(_PACKAGE)), path.read_bytes()) for path in own],
        [*(f"{name} {metadata.version(name)}" for name in _LIBRARIES), f"onnxruntime {onnxruntime.__version__}"],
        [sys.platform, platform.machine(), torch.backends.cpu.get_cpu_capability()],
    )


@functools.cache
def training_environment_fingerprint() -> str:
    """Return the fingerprint of the code that prunes and trains, its libraries, and the types of the processors."""
    passes = _PACKAGE / "passes"
    own = sorted([*passes.glob("pruning/*.py"), passes / "training.py", passes / "augment.py"])
    libraries = [f"{name} {metadata.version(name)}" for name in ("torch", "torch-pruning")]
    processors = [torch.backends.cpu.get_cpu_capability(), distributed.device().type]
    return digest([digest(path.read_bytes()) for path in own], libraries, processors)


def function_fingerprint(name: str) -> str:
    """Return the fingerprint of a function that a recipe names, and of all user code that it may call.

    Args:
        name: ``file.py:function``, ``package.module:function``, or a built-in name.
    """
    if ":" not in name:
        return digest(name)
    code = CodeFingerprint()
    return digest(name.rpartition(":")[2], code.value(load_function(name)), code.sum())
