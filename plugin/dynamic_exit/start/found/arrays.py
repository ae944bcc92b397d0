"""Arrays in .npz files: series, rows of numbers, or images."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ...data.npz_names import INPUTS, LABELS
from ...errors import DataError, first_line
from ..splits import check_counts
from .base import DataRequest, FoundData, Holds


def find_arrays(request: DataRequest) -> FoundData | None:
    """Return what an .npz file, or a folder of one a split, holds; None if the path is neither.

    Raises:
        DataError: A file cannot be read, or lacks labels.
    """
    path = request.file
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path] if path.suffix == ".npz" else []
    if not files:
        return None
    if not path.exists():
        raise DataError(f"data path '{request.path}' does not exist; check the path")
    parts = {each.stem: _read_all(each) for each in files} if path.is_dir() else _parts(_read_all(path), request.path)
    chosen = request.choose({name: len(_labels(arrays, name, request.path)) for name, arrays in parts.items()})
    used = {name.partition("[")[0] for name in chosen.names.values()}
    missing = sorted(used - {*parts})
    if missing:
        raise DataError(f"'{request.path}' has no split '{missing[0]}'; it has {', '.join(parts)}")
    labels = np.concatenate([_labels(parts[name], name, request.path) for name in sorted(used)])
    names, counts = np.unique(labels, return_counts=True)
    notes = check_counts(dict(zip(map(str, names), counts.tolist(), strict=True)), chosen.drawn, f"'{request.path}'")
    inputs = _inputs(parts[min(used)], request.path)
    holds, keys, what = _describe(inputs)
    if chosen.drawn:
        keys = {**keys, "stratify": True, "duplicates": "drop"}
    # labels that are numbers may leave out the last classes
    classes = len(names) if labels.dtype.kind in "USO" else int(labels.max()) + 1
    described = f"{len(labels)} {what} of {classes} classes"
    return FoundData("npz", request.path, chosen, holds, classes, described, keys, notes)


def _read_all(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"data file '{path}' cannot be read: {first_line(error)}; write it with numpy.savez") from error


def _parts(arrays: dict[str, np.ndarray], where: str) -> dict[str, dict[str, np.ndarray]]:
    """Group the arrays of a file by split: the endings of the arrays of labels."""
    endings = [
        name.removeprefix(label) for name in arrays for label in LABELS if name == label or name.startswith(f"{label}_")
    ]
    if not endings:
        raise DataError(
            f"'{where}' has no array of labels ({', '.join(LABELS)}; or y_train and so on); it has {', '.join(arrays)}"
        )
    return {
        ending.removeprefix("_"): {
            name.removesuffix(ending): each for name, each in arrays.items() if name.endswith(ending)
        }
        for ending in endings
    }


def _labels(arrays: dict[str, np.ndarray], name: str, where: str) -> np.ndarray:
    found = next((arrays[each] for each in LABELS if each in arrays), None)
    if found is None or not found.size:
        what = "no array 'labels'" if found is None else "no samples"
        raise DataError(f"'{where}' has {what} in split '{name}'; it has {', '.join(arrays)}")
    return found.reshape(-1)


def _inputs(arrays: dict[str, np.ndarray], where: str) -> np.ndarray:
    found = next((arrays[each] for each in INPUTS if each in arrays), None)
    others = [each for name, each in arrays.items() if name not in LABELS]
    if found is None and not others:
        raise DataError(f"'{where}' has no array 'inputs'; it has {', '.join(arrays)}")
    return others[0] if found is None else found


def _describe(inputs: np.ndarray) -> tuple[Holds, dict[str, Any], str]:
    """Return what inputs hold, further keys of the stanza, and a phrase."""
    shape = " x ".join(map(str, inputs.shape[1:]))
    if inputs.ndim == 4:
        last = inputs.shape[3] in (1, 3) and inputs.shape[1] not in (1, 3)
        keys = {"layout": "channels_last"} if last else {}
        return ("images" if inputs.dtype == np.uint8 else "arrays"), keys, f"images ({shape}, {inputs.dtype})"
    what = {2: "rows of numbers", 3: "series"}.get(inputs.ndim, "arrays")
    return "arrays", {}, f"{what} ({shape}, {inputs.dtype})"
