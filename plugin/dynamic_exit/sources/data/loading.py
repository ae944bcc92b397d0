"""Where samples come from."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...core.user_code import load_function
from ...errors import DataError, first_line
from ...passes import ModelSource
from ...recipe.data import DataSource
from ..class_names import Known, Note, known_names, number_labels
from .image_folder import ImageFolderReader
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
        class_names: What the data call the classes, by label; None where labels came as numbers.
    """

    name: str
    inputs: dict[str, np.ndarray]
    labels: np.ndarray
    class_names: tuple[str, ...] | None = None

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
        return replace(
            self, inputs={name: array[rows] for name, array in self.inputs.items()}, labels=self.labels[rows]
        )

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


def load_splits(
    source: DataSource,
    seed: int,
    model: ModelSource | None = None,
    known: Known | None = None,
    note: Note = lambda line: None,
) -> dict[str, Split]:
    """Load the three splits and check that they can be used together.

    Args:
        source: The stanza.
        seed: Decides the order in which slices are taken.
        model: The backbone's stanza: whose tokenizer text has where `source` names none.
        known: Names of the classes; None takes those that `source` or `model` tell.
        note: Takes what was left out of the data or done to them.

    Returns:
        ``train``, ``calibration`` and ``test``.

    Raises:
        DataError: A split is missing, empty, malformed, holds NaN, or shares samples with another.
    """
    slices = {key: _slice(getattr(source.splits, key)) for key in ("train", "calibration", "test")}
    names = [name for name, _ in slices.values()]
    tell = partial(_tell, known, source, model)
    read = _reader(source, names, model, tell, note)
    samples = {name: read(name) for name in dict.fromkeys(names)}
    class_names = getattr(read, "class_names", None) or number_names(samples, tell, note)
    splits = {}
    for key, (name, share) in slices.items():
        split = Split(key, *check_samples(*samples[name], split=key), class_names and tuple(class_names))
        if share:
            rows = np.random.default_rng(seed).permutation(len(split))
            split = split.take(rows[int(share[0] * len(rows)) : int(share[1] * len(rows))])
        if not len(split):
            raise DataError(f"split '{key}' is empty ('{getattr(source.splits, key)}'); give it at least one sample")
        if source.layout == "channels_last":
            split.inputs.update({name: _channels_first(array) for name, array in split.inputs.items()})
        splits[key] = split
    return refuse_overlaps(splits, source.duplicates)


def _tell(known: Known | None, source: DataSource, model: ModelSource | None) -> Known | None:
    """Find the names of the classes once they are needed: where labels are numbers nobody has to read them."""
    return known or known_names(source, model)


def number_names(
    samples: dict[str, tuple[Any, Any]], tell: Callable[[], Known | None], note: Note = lambda line: None
) -> tuple[str, ...] | None:
    """Put numbers in place of labels that are names, read alike in all splits.

    Args:
        samples: Inputs and labels by split; labels that are names are replaced in it.
        tell: Finds the names of the classes, once they are needed.
        note: Takes what the user should know about the labels.

    Returns:
        Names of the classes in the order of their numbers; None where labels are numbers already.

    Raises:
        DataError: A label is no class.
    """
    labels = {name: np.asarray(given) for name, (_, given) in samples.items()}
    named = any(array.dtype.kind in "USO" for array in labels.values())
    if not named or any(array.ndim != 1 for array in labels.values()):
        return None  # labels of another shape are refused later
    places = [(name, row) for name, array in labels.items() for row in range(len(array))]
    flat = [each.decode() if isinstance(each, bytes) else each for array in labels.values() for each in array.tolist()]
    numbers, names = number_labels(
        flat, tell(), lambda i: (f"split '{places[i][0]}'", f" in sample {places[i][1]}"), note
    )
    ends = np.cumsum([len(array) for array in labels.values()])
    for name, part in zip(labels, np.split(numbers, ends[:-1]), strict=True):
        samples[name] = (samples[name][0], part)
    return names and tuple(names)


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


def _reader(
    source: DataSource, names: Sequence[str], model: ModelSource | None, tell: Callable[[], Known | None], note: Note
) -> Callable[[str], tuple[Any, Any]]:
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
        return TextReader(source, names, model, tell(), note)
    return partial(read_npz, path) if source.source == "npz" else ImageFolderReader(path, names, tell(), note)


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
    if labels.shape != (count,) or not _whole(labels):
        said = f"got {labels.dtype} {list(labels.shape)} for {count} samples{_objective(labels, count)}"
        raise DataError(f"split '{split}' must have one whole number as label for each sample; {said}")
    return arrays, labels.astype(np.int64)


def _objective(labels: np.ndarray, count: int) -> str:
    """Name what labels of another form are for, where that is plain."""
    if labels.ndim == 2 and labels.shape[0] == count and labels.shape[1] > 1:
        return "; rows of several labels are for multi-label classification, which is not supported"
    fractions = labels.shape == (count,) and labels.dtype.kind == "f" and np.isfinite(labels).all()
    return "; fractions are for regression, which is not supported" if fractions else ""


def _whole(labels: np.ndarray) -> bool:
    """Whether labels are whole numbers of any type, truth values included."""
    return labels.dtype.kind in "biu" or (labels.dtype.kind == "f" and bool((labels == labels // 1).all()))


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
