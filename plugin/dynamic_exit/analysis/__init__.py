"""What users ask of a recipe before a run, and of a written folder after it.

`plan` estimates shapes, costs and times; `evaluate_folder` measures a folder on other samples, `benchmark_folder` times
it, and `inspect_folder` says what it holds.
"""

from typing import TYPE_CHECKING

from ..core.lazy import lazy_exports

if TYPE_CHECKING:
    from .benchmark import benchmark_folder
    from .evaluate import evaluate_folder
    from .inspect import inspect_folder
    from .samples import load_samples

__all__ = ["benchmark_folder", "evaluate_folder", "inspect_folder", "load_samples"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "benchmark": ("benchmark_folder",),
        "evaluate": ("evaluate_folder",),
        "inspect": ("inspect_folder",),
        "samples": ("load_samples",),
    },
)
