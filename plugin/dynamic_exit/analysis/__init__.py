"""What users ask of a recipe before a run, and of a written folder after it.

`plan` estimates shapes, costs and times; `evaluate_folder` measures a folder on other samples, `benchmark_folder` times
it, and `inspect_folder` says what it holds.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .benchmark import benchmark_folder
    from .evaluate import evaluate_folder, load_samples
    from .inspect import inspect_folder

__all__ = ["benchmark_folder", "evaluate_folder", "inspect_folder", "load_samples"]

_MODULES = {
    "benchmark_folder": ".benchmark",
    "evaluate_folder": ".evaluate",
    "inspect_folder": ".inspect",
    "load_samples": ".evaluate",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name], __name__), name)
