"""Data sources: the splits that a recipe names, from .npz files, image folders, text files and the user's own code."""

from typing import TYPE_CHECKING

from ..core.lazy import lazy_exports

if TYPE_CHECKING:
    from .checks import check_labels, check_same_format, check_samples, resolve_overlaps
    from .loading import encode_label_names, load_splits
    from .npz_source import read_npz
    from .reader import ReadRequest, Samples, SplitReader, find_path
    from .run_inputs import RunInputs
    from .split import UNNAMED, Split

__all__ = [
    "UNNAMED",
    "ReadRequest",
    "RunInputs",
    "Samples",
    "Split",
    "SplitReader",
    "check_labels",
    "check_same_format",
    "check_samples",
    "encode_label_names",
    "find_path",
    "load_splits",
    "read_npz",
    "resolve_overlaps",
]

# on first use: readers bring torch
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "checks": ("check_labels", "check_same_format", "check_samples", "resolve_overlaps"),
        "loading": ("encode_label_names", "load_splits"),
        "npz_source": ("read_npz",),
        "reader": ("ReadRequest", "Samples", "SplitReader", "find_path"),
        "run_inputs": ("RunInputs",),
        "split": ("UNNAMED", "Split"),
    },
)
