"""Data sources: .npz files, image folders, text files and the user's Python code."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checks import check_labels, check_same_format, check_samples, resolve_overlaps
    from .loading import encode_label_names, load_splits
    from .npz import read_npz
    from .pixel_range import explain_range_mismatch, propose_ranges
    from .reader import Samples, SplitReader
    from .split import UNNAMED, Split

__all__ = [
    "UNNAMED",
    "Samples",
    "Split",
    "SplitReader",
    "check_labels",
    "check_same_format",
    "check_samples",
    "encode_label_names",
    "explain_range_mismatch",
    "load_splits",
    "propose_ranges",
    "read_npz",
    "resolve_overlaps",
]

_MODULES = {
    "checks": ("check_labels", "check_same_format", "check_samples", "resolve_overlaps"),
    "loading": ("encode_label_names", "load_splits"),
    "npz": ("read_npz",),
    "pixel_range": ("explain_range_mismatch", "propose_ranges"),
    "reader": ("Samples", "SplitReader"),
    "split": ("UNNAMED", "Split"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:  # on first use: readers bring torch
            value = globals()[name] = getattr(importlib.import_module(f".{module}", __name__), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
