"""Where samples come from."""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import DataError, first_line
from .own_code import load_function
from .schema import DataSource


@dataclass(frozen=True)
class Split:
    """Samples of one split.

    Attributes:
        name: ``train``, ``calibration`` or ``test``.
        inputs: (N, ...) as the model takes them.
        labels: int64 (N,), -1 where unknown.
    """

    name: str
    inputs: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def tensor(self) -> torch.Tensor:
        """The inputs as a tensor that shares their memory."""
        return torch.from_numpy(self.inputs)


def load_splits(source: DataSource, seed: int) -> dict[str, Split]:
    """Load the three splits and check that they can be used together.

    Args:
        source: The stanza.
        seed: Decides the order in which slices are taken.

    Returns:
        ``train``, ``calibration`` and ``test``.

    Raises:
        DataError: A split is missing, empty, malformed, holds NaN, or shares samples with another.
    """
    read = _reader(source)
    splits = {}
    for key in ("train", "calibration", "test"):
        name, share = _slice(getattr(source.splits, key))
        inputs, labels = check_samples(*read(name), split=key)
        rows = np.random.default_rng(seed).permutation(len(inputs)) if share else np.arange(len(inputs))
        if share:
            rows = rows[int(share[0] * len(rows)) : int(share[1] * len(rows))]
        if not len(rows):
            raise DataError(f"split '{key}' is empty ('{getattr(source.splits, key)}'); give it at least one sample")
        inputs = inputs[rows]
        if source.layout == "channels_last" and inputs.ndim == 4:
            inputs = np.ascontiguousarray(np.moveaxis(inputs, -1, 1))
        splits[key] = Split(key, inputs, labels[rows])
    return refuse_overlaps(splits, source.duplicates)


def _slice(text: str) -> tuple[str, tuple[float, float] | None]:
    match = re.fullmatch(r"(.*?)\[(\d+(?:\.\d+)?%)?:(\d+(?:\.\d+)?%)?\]", text)
    if not match:
        if "[" in text:
            raise DataError(f"split '{text}' has a slice that cannot be read; write it as name[0%:50%]")
        return text, None
    low, high = (
        float(part[:-1]) / 100 if part else default
        for part, default in zip(match.groups()[1:], (0.0, 1.0), strict=True)
    )
    if not 0 <= low <= high <= 1:
        raise DataError(f"split '{text}' must slice upwards within 0% and 100%")
    return match[1], (low, high)


def _reader(source: DataSource) -> Callable[[str], tuple[Any, Any]]:
    if source.source == "python":
        function = load_function(source.path)

        def read_python(name):
            try:
                return function(name)
            except Exception as error:  # own code may raise anything
                raise DataError(f"'{source.path}' cannot load split '{name}': {first_line(error)}") from error

        return read_python
    path = Path(source.path)
    if not path.exists():
        raise DataError(f"data path '{path}' does not exist; check the path")
    return (lambda name: read_npz(path, name)) if source.source == "npz" else (lambda name: _read_folder(path, name))


def read_npz(path: Path, name: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Read inputs and labels from ``path`` or, if it is a folder, from the file `name` in it.

    Arrays are called ``inputs`` (or ``images``, ``x``) and ``labels`` (or ``y``); in one file with several splits
    their names end in ``_name``, such as ``x_train``.

    Raises:
        DataError: A file or array is not there.
    """
    if path.is_dir():
        path, name = path / (name if name.endswith(".npz") else f"{name}.npz"), ""
    if not path.is_file():
        raise DataError(f"data file '{path}' does not exist; check the path and the names of the splits")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return tuple(_pick(arrays, path, kinds, name) for kinds in (("inputs", "images", "x"), ("labels", "y")))
    except DataError:
        raise
    except Exception as error:  # numpy and zipfile raise what they please on a file that is something else
        raise DataError(f"data file '{path}' is no .npz file of plain numbers; write it with numpy.savez") from error


def _pick(arrays, path: Path, kinds: tuple[str, ...], name: str) -> np.ndarray:
    wanted = [f"{kind}_{name}" if name else kind for kind in kinds]
    for key in wanted:
        if key in arrays:
            return arrays[key]
    raise DataError(f"data file '{path}' has no array '{wanted[0]}'; it has {', '.join(arrays)}")


def _read_folder(path: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    from PIL import Image

    folder = path / name
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    if not classes:
        raise DataError(f"image folder '{folder}' has no folders of classes; put the images of each class into one")
    files = [(file, i) for i, label in enumerate(classes) for file in sorted((folder / label).iterdir())]
    images = []
    for file, _ in files:
        try:
            images.append(np.asarray(Image.open(file).convert("RGB")).transpose(2, 0, 1))
        except OSError as error:
            raise DataError(f"image '{file}' cannot be read: {first_line(error)}") from error
        if images[-1].shape != images[0].shape:
            raise DataError(
                f"image '{file}' is {images[-1].shape[1:]}, others {images[0].shape[1:]}; resize beforehand"
            )
    return np.stack(images), np.asarray([label for _, label in files], np.int64)


def check_samples(inputs: Any, labels: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and int64 labels as arrays, or refuse them.

    Raises:
        DataError: They are no numbers, of different lengths, or hold NaN.
    """
    inputs, labels = np.asarray(inputs), np.asarray(labels)
    if inputs.dtype == np.float64:
        inputs = inputs.astype(np.float32)
    if not (np.issubdtype(inputs.dtype, np.number) and inputs.ndim >= 2):
        raise DataError(f"split '{split}' must hold numbers of shape (N, ...); got {inputs.dtype} {list(inputs.shape)}")
    if labels.shape != (len(inputs),) or not np.issubdtype(labels.dtype, np.integer):
        said = f"got {labels.dtype} {list(labels.shape)} for {len(inputs)} samples"
        raise DataError(f"split '{split}' must have one whole number as label for each sample; {said}")
    if np.issubdtype(inputs.dtype, np.floating) and not np.isfinite(inputs).all():
        row = int(np.argwhere(~np.isfinite(inputs.reshape(len(inputs), -1)).all(1))[0, 0])
        raise DataError(f"split '{split}' holds NaN or infinity, first in sample {row}; repair or remove it")
    return inputs, labels.astype(np.int64)


def refuse_overlaps(splits: dict[str, Split], duplicates: str = "refuse") -> dict[str, Split]:
    """Refuse or drop samples that two splits share, byte for byte; the later split keeps them."""
    seen: dict[bytes, tuple[str, int]] = {}
    for key in ("test", "calibration", "train"):
        split = splits[key]
        prints = [hashlib.blake2b(np.ascontiguousarray(row), digest_size=16).digest() for row in split.inputs]
        shared = [i for i, mark in enumerate(prints) if mark in seen]
        if shared and duplicates == "refuse":
            other, row = seen[prints[shared[0]]]
            raise DataError(
                f"splits '{key}' and '{other}' overlap in {len(shared)} samples, first sample {shared[0]} of '{key}' "
                f"and {row} of '{other}'; make them disjoint, or set `duplicates: drop`"
            )
        if shared:
            keep = np.setdiff1d(np.arange(len(split)), shared)
            if not len(keep):
                raise DataError(f"split '{key}' is empty once its copies of other splits are dropped; give it others")
            splits[key] = Split(key, split.inputs[keep], split.labels[keep])
        seen.update({mark: (key, i) for i, mark in enumerate(prints) if mark not in seen})
    return splits


def check_alike(splits: Mapping[str, Split]) -> None:
    """Refuse splits whose samples differ in shape or type, and empty ones.

    Raises:
        DataError: Two splits differ, or one is empty.
    """
    for split in splits.values():
        if not len(split):
            raise DataError(f"split '{split.name}' is empty; give it at least one sample")
    first, *others = splits.values()
    for split in others:
        kinds = [f"{each.inputs.dtype} {list(each.inputs.shape[1:])}" for each in (split, first)]
        if kinds[0] != kinds[1]:
            raise DataError(
                f"split '{split.name}' holds samples of {kinds[0]} and split '{first.name}' of {kinds[1]}; "
                "give all splits one shape and type"
            )


def check_labels(splits: Mapping[str, Split], classes: int, names: list[str] | None) -> None:
    """Refuse labels that the model has no class for.

    Raises:
        DataError: A label is outside 0..classes-1, or the number of names differs.
    """
    if names is not None and len(names) != classes:
        raise DataError(f"key 'data.classes' names {len(names)} classes, the model has {classes}; name each once")
    for split in splits.values():
        wrong = np.flatnonzero((split.labels < 0) | (split.labels >= classes))
        if len(wrong):
            said = f"label {split.labels[wrong[0]]} of sample {wrong[0]}"
            raise DataError(
                f"split '{split.name}' has {said}, the model only classes 0 to {classes - 1}; map the labels"
            )
