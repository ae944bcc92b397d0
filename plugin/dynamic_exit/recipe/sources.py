"""Where samples come from."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import DataError, first_line
from ..passes import ModelSource
from ..passes.own_code import load_function
from .schema import DataSource
from .text import TextReader

#: How the only input is called that came without a name: models take it by position.
UNNAMED = ""
# what a file and its segments call values of their own
_RESERVED = ("hidden", "logits", "memory", "thresholds")


@dataclass(frozen=True)
class Split:
    """Samples of one split.

    Attributes:
        name: ``train``, ``calibration`` or ``test``.
        inputs: By the name under which models take it, each (N, ...); the only one may be ``UNNAMED``.
        labels: int64 (N,), -1 where unknown.
    """

    name: str
    inputs: dict[str, np.ndarray]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def by_name(self) -> bool:
        """Whether the inputs have names, by which models take them."""
        return UNNAMED not in self.inputs

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """The inputs as tensors that share their memory."""
        return {name: torch.from_numpy(array) for name, array in self.inputs.items()}

    def take(self, rows: np.ndarray) -> "Split":
        """Return some of the samples."""
        return Split(self.name, {name: array[rows] for name, array in self.inputs.items()}, self.labels[rows])

    def feeds(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the inputs that a model takes, by its names for them.

        Raises:
            DataError: One is missing.
        """
        if not self.by_name and len(names) == 1:
            return {names[0]: self.inputs[UNNAMED]}
        for name in names:
            if name not in self.inputs:
                known = ", ".join(self.inputs) if self.by_name else "one without a name"
                raise DataError(f"split '{self.name}' has no input '{name}', which the model takes; it has {known}")
        return {name: self.inputs[name] for name in names}


def load_splits(source: DataSource, seed: int, model: ModelSource | None = None) -> dict[str, Split]:
    """Load the three splits and check that they can be used together.

    Args:
        source: The stanza.
        seed: Decides the order in which slices are taken.
        model: The backbone's stanza: whose tokenizer and class names text has where `source` names none.

    Returns:
        ``train``, ``calibration`` and ``test``.

    Raises:
        DataError: A split is missing, empty, malformed, holds NaN, or shares samples with another.
    """
    slices = {key: _slice(getattr(source.splits, key)) for key in ("train", "calibration", "test")}
    read = _reader(source, [name for name, _ in slices.values()], model)
    splits = {}
    for key, (name, share) in slices.items():
        split = Split(key, *check_samples(*read(name), split=key))
        rows = np.random.default_rng(seed).permutation(len(split)) if share else np.arange(len(split))
        if share:
            rows = rows[int(share[0] * len(rows)) : int(share[1] * len(rows))]
        if not len(rows):
            raise DataError(f"split '{key}' is empty ('{getattr(source.splits, key)}'); give it at least one sample")
        split = split.take(rows)
        if source.layout == "channels_last":
            split.inputs.update({name: _channels_first(array) for name, array in split.inputs.items()})
        splits[key] = split
    return refuse_overlaps(splits, source.duplicates)


def _channels_first(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(array, -1, 1)) if array.ndim == 4 else array


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


def _reader(source: DataSource, names: Sequence[str], model: ModelSource | None) -> Callable[[str], tuple[Any, Any]]:
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
    if source.source == "text":
        return TextReader(source, names, model)
    return (lambda name: read_npz(path, name)) if source.source == "npz" else (lambda name: _read_folder(path, name))


def read_npz(path: Path, name: str = "") -> tuple[np.ndarray | dict[str, np.ndarray], np.ndarray]:
    """Read inputs and labels from ``path`` or, if it is a folder, from the file `name` in it.

    Labels are called ``labels`` (or ``y``), an only input ``inputs`` (or ``images``, ``x``); without such an array all
    others are inputs, under the names by which models take them. In one file with several splits all names end in
    ``_name``, such as ``x_train``.

    Raises:
        DataError: A file or array is not there.
    """
    if path.is_dir():
        path, name = path / (name if name.endswith(".npz") else f"{name}.npz"), ""
    if not path.is_file():
        raise DataError(f"data file '{path}' does not exist; check the path and the names of the splits")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return _pick(arrays, path, f"_{name}" if name else "")
    except DataError:
        raise
    except Exception as error:  # numpy and zipfile raise what they please on a file that is something else
        raise DataError(f"data file '{path}' is no .npz file of plain numbers; write it with numpy.savez") from error


def _pick(arrays, path: Path, ending: str) -> tuple[np.ndarray | dict[str, np.ndarray], np.ndarray]:
    ours = {key.removesuffix(ending): key for key in arrays if key.endswith(ending)}
    label = next((kind for kind in ("labels", "y") if kind in ours), None)
    only = next((kind for kind in ("inputs", "images", "x") if kind in ours), None)
    named = {} if only else {kind: key for kind, key in ours.items() if kind not in ("labels", "y")}
    for found, wanted in ((only or named, "inputs"), (label, "labels")):
        if not found:
            raise DataError(f"data file '{path}' has no array '{wanted}{ending}'; it has {', '.join(arrays)}")
    inputs = arrays[ours[only]] if only else {kind: arrays[key] for kind, key in named.items()}
    return inputs, arrays[ours[label]]


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


def check_samples(inputs: Any, labels: Any, split: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return inputs by name and int64 labels as arrays, or refuse them.

    Args:
        inputs: One array (N, ...), or several by name.
        labels: Whole numbers (N,).
        split: Whom messages speak of.

    Returns:
        The inputs, one that came alone as ``UNNAMED``, and the labels.

    Raises:
        DataError: They are no numbers, of different lengths, hold NaN, or a mask fits no input.
    """
    given = dict(inputs) if isinstance(inputs, Mapping) else {UNNAMED: inputs}
    arrays = {name: _check_input(name, array, split) for name, array in given.items()}
    if not arrays:
        raise DataError(f"split '{split}' has no inputs; give it at least one array")
    count, labels = len(next(iter(arrays.values()))), np.asarray(labels)
    for name, array in arrays.items():
        if len(array) != count:
            first = next(iter(arrays))
            raise DataError(
                f"split '{split}' has {len(array)} samples of input '{name}' and {count} of '{first}'; give all inputs "
                "of every sample"
            )
    _check_lengths(arrays, split)
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        said = f"got {labels.dtype} {list(labels.shape)} for {count} samples"
        raise DataError(f"split '{split}' must have one whole number as label for each sample; {said}")
    return arrays, labels.astype(np.int64)


def _check_input(name: str, array: Any, split: str) -> np.ndarray:
    array = np.asarray(array)
    what = f"split '{split}'" + (f", input '{name}'," if name != UNNAMED else "")
    if not isinstance(name, str) or name in _RESERVED:
        raise DataError(f"{what} has a name that no input may have; call it as the model's forward does")
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    numbers = np.issubdtype(array.dtype, np.number) or (array.dtype == bool and name != UNNAMED)
    if not (numbers and array.ndim >= 2):
        raise DataError(f"{what} must hold numbers of shape (N, ...); got {array.dtype} {list(array.shape)}")
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array.reshape(len(array), -1)).all(1))[0, 0])
        raise DataError(f"{what} holds NaN or infinity, first in sample {row}; repair or remove it")
    return array


def _check_lengths(arrays: Mapping[str, np.ndarray], split: str) -> None:
    """Refuse a mask, or other token indices, of another length than the token indices."""
    tokens = {
        name: array.shape for name, array in arrays.items() if name.endswith(("_ids", "mask")) and array.ndim == 2
    }
    for name, shape in tokens.items():
        first = next(iter(tokens))
        if shape != tokens[first]:
            raise DataError(
                f"split '{split}' has the input '{name}' of shape {list(shape)} and '{first}' of shape "
                f"{list(tokens[first])}; give both one length"
            )


def refuse_overlaps(splits: dict[str, Split], duplicates: str = "refuse") -> dict[str, Split]:
    """Refuse or drop samples that two splits share, byte for byte; the later split keeps them."""
    seen: dict[bytes, tuple[str, int]] = {}
    for key in ("test", "calibration", "train"):
        split = splits[key]
        prints = [_print(row) for row in zip(*split.inputs.values(), strict=True)]
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
            splits[key] = split.take(keep)
        seen.update({mark: (key, i) for i, mark in enumerate(prints) if mark not in seen})
    return splits


def _print(row: Sequence[np.ndarray]) -> bytes:
    mark = hashlib.blake2b(digest_size=16)
    for values in row:
        mark.update(np.ascontiguousarray(values))
    return mark.digest()


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
        kinds = [_kinds(each) for each in (split, first)]
        if kinds[0] != kinds[1]:
            raise DataError(
                f"split '{split.name}' holds samples of {kinds[0]} and split '{first.name}' of {kinds[1]}; "
                "give all splits one shape and type"
            )


def _kinds(split: Split) -> str:
    kinds = {name: f"{array.dtype} {list(array.shape[1:])}" for name, array in sorted(split.inputs.items())}
    return ", ".join(f"{name} {kind}".strip() for name, kind in kinds.items())


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
