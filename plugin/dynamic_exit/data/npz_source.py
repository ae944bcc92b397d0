"""Samples in NumPy's .npz files."""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from ..errors import DataError
from ..recipe.data import DataKind, DataSource
from ..trust.archives import check_archive
from .npz_names import INPUTS, LABELS
from .reader import ReadRequest, SplitReader, find_path
from .split import UNNAMED


def read_npz(
    path: Path, name: str = "", groups: str | None = None
) -> tuple[np.ndarray | dict[str, np.ndarray], np.ndarray]:
    """Read inputs and labels of a split.

    The labels are the array ``labels``, ``label`` or ``y``; a single input is ``inputs``, ``images`` or ``x``. Without
    such an input, all other arrays are inputs, under the names by which models take them. In a file with several splits
    all names end in ``_name``, such as ``x_train``.

    Args:
        path: A file, or a folder that holds a file per split.
        name: The split.
        groups: An array that stands among the inputs as well.

    Raises:
        DataError: A file or an array is missing, or the file cannot be read.
    """
    if path.is_dir():
        path, name = path / (name if name.endswith(".npz") else f"{name}.npz"), ""
    if not path.is_file():
        raise DataError(f"data file '{path}' does not exist; check the path and the names of the splits")
    try:
        check_archive(path)
        with np.load(path, allow_pickle=False) as arrays:
            return _select_arrays(arrays, path, f"_{name}" if name else "", groups)
    except DataError:
        raise
    except Exception as error:  # numpy and zipfile raise various errors on files of other formats
        raise DataError(f"data file '{path}' is no .npz file of plain numbers; write it with numpy.savez") from error


def _select_arrays(
    arrays: NpzFile, path: Path, ending: str, groups: str | None
) -> tuple[np.ndarray | dict[str, np.ndarray], np.ndarray]:
    ours = {key.removesuffix(ending): key for key in arrays if key.endswith(ending)}
    label = next((kind for kind in LABELS if kind in ours), None)
    only = next((kind for kind in INPUTS if kind in ours), None)
    named = {} if only else {kind: key for kind, key in ours.items() if kind not in LABELS}
    if not (only or named) or not label:
        missing = "labels" if only or named else "inputs"
        raise DataError(f"data file '{path}' has no array '{missing}{ending}'; it has {', '.join(arrays)}")
    if only and groups not in ours:
        return arrays[ours[only]], arrays[ours[label]]
    if only and groups:
        named = {UNNAMED: ours[only], groups: ours[groups]}
    return {kind: arrays[key] for kind, key in named.items()}, arrays[ours[label]]


def _make(source: DataSource, request: ReadRequest) -> SplitReader:
    return partial(read_npz, find_path(source), groups=None if source.groups is None else str(source.groups))


KIND = DataKind(DataSource, _make)
