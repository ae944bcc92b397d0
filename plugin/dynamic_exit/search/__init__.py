"""The search for stages and thresholds that reach goals at the least cost."""

from typing import TYPE_CHECKING

from ..core.lazy import lazy_exports

if TYPE_CHECKING:
    from .beam import shortlist
    from .optimizer import (
        DEFAULT_DROPS,
        front,
        optimize,
        tune,
        tune_file,
    )
    from .options import SearchOptions

__all__ = [
    "DEFAULT_DROPS",
    "SearchOptions",
    "front",
    "optimize",
    "shortlist",
    "tune",
    "tune_file",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "beam": ("shortlist",),
        "optimizer": (
            "DEFAULT_DROPS",
            "front",
            "optimize",
            "tune",
            "tune_file",
        ),
        "options": ("SearchOptions",),
    },
)
