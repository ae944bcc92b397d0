"""Checks on samples and splits."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ..core.batching import DEFAULT_BATCH_SIZE
from ..core.memory_pages import release_pages
from ..errors import DataError
from .arrays import to_array, to_labels
from .split import UNLABELLED, UNNAMED, Split

# names that the exported model uses for values of its own
_RESERVED = ("hidden", "logits", "memory", "thresholds")
# bytes of a sample that are read to see whether it may be a copy, at its beginning and in its middle
_PIECE = 512


def check_samples(
    inputs: ArrayLike | Mapping[str, ArrayLike], labels: ArrayLike, split: str
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Check samples and convert them to arrays.

    Args:
        inputs: One array (N, ...), or several by name.
        labels: Whole numbers (N,) or (N, 1).
        split: Name of the split, for messages.

    Returns:
        The inputs by name, a single one without a name as ``UNNAMED``, and the labels as int64 (N,).

    Raises:
        DataError: They are not numbers, differ in length, hold NaN, or a mask fits no input.
    """
    by_name = dict(inputs) if isinstance(inputs, Mapping) else {UNNAMED: inputs}
    arrays = {name: _check_input(name, array, split) for name, array in by_name.items()}
    if not arrays:
        raise DataError(f"split '{split}' has no inputs; give it at least one array")
    count, numbers = len(next(iter(arrays.values()))), to_labels(labels, f"split '{split}'")
    for name, array in arrays.items():
        if len(array) != count:
            first = next(iter(arrays))
            raise DataError(
                f"split '{split}' has {len(array)} samples of input '{name}' and {count} of '{first}'; give all inputs "
                "of every sample"
            )
    _check_lengths(arrays, split)
    if numbers.shape != (count,) or not _are_whole(numbers):
        got = f"got {numbers.dtype} {list(numbers.shape)} for {count} samples{_explain_objective(numbers, count)}"
        raise DataError(f"split '{split}' must have one whole number as label for each sample; {got}")
    numbers = numbers.astype(np.float64) if numbers.dtype == np.float16 else numbers  # whose range is too small
    most = np.iinfo(np.int64).max
    whole = np.where(numbers > most, 0, numbers).astype(np.int64)
    whole[numbers > most] = most  # what is no class must not turn into one, or negative
    return arrays, whole


def _explain_objective(labels: np.ndarray, count: int) -> str:
    """Name the task that labels of another form suggest."""
    if labels.ndim == 2 and labels.shape[0] == count and labels.shape[1] > 1:
        return "; rows of several labels are for multi-label classification, which is not supported"
    fractions = labels.shape == (count,) and labels.dtype.kind == "f" and np.isfinite(labels).all()
    return "; fractions are for regression, which is not supported" if fractions else ""


def _are_whole(labels: np.ndarray) -> bool:
    """Whether all labels are whole numbers of any type, or booleans."""
    return labels.dtype.kind in "biu" or (
        labels.dtype.kind == "f" and bool((labels == np.floor(labels)).all() and np.isfinite(labels).all())
    )


def _check_input(name: str, values: ArrayLike, split: str) -> np.ndarray:
    what = f"split '{split}'" + (f", input '{name}'," if name != UNNAMED else "")
    if not isinstance(name, str) or name in _RESERVED:
        raise DataError(f"{what} has a name that no input may have; call it as the model's forward does")
    array = to_array(values, what)
    if array.dtype in (np.float16, np.float64):
        with np.errstate(over="ignore"):  # infinity is refused below
            array = array.astype(np.float32)
    numbers = array.dtype.kind in "iuf" or (array.dtype == bool and name != UNNAMED)
    if not (numbers and array.ndim >= 2):
        raise DataError(f"{what} must hold numbers of shape (N, ...); got {array.dtype} {list(array.shape)}")
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array.reshape(len(array), -1)).all(1))[0, 0])
        raise DataError(f"{what} holds NaN or infinity, first in sample {row}; repair or remove it")
    return array


def _check_lengths(arrays: Mapping[str, np.ndarray], split: str) -> None:
    """Refuse token indices and masks of different lengths."""
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


def resolve_overlaps(splits: dict[str, Split], duplicates: str = "refuse") -> dict[str, Split]:
    """Refuse or drop samples that two splits share, byte for byte.

    Args:
        splits: ``train``, ``calibration``, ``test`` and perhaps ``unlabelled``.
        duplicates: ``refuse``, or ``drop`` to remove them from the earlier split.

    Raises:
        DataError: Splits overlap, or one is empty without its duplicates.
    """
    seen: dict[bytes, tuple[str, int]] = {}
    suspects = _find_suspects(splits)
    for key in [key for key in ("test", "calibration", "train", UNLABELLED) if key in splits]:
        split = splits[key]
        digests = {i: _hash_sample(row) for i, row in _rows(split, suspects[key])}
        shared = [i for i, digest in digests.items() if digest in seen]
        if shared and duplicates == "refuse":
            other, row = seen[digests[shared[0]]]
            raise DataError(
                f"splits '{key}' and '{other}' overlap in {len(shared)} samples, first sample {shared[0]} of '{key}' "
                f"and {row} of '{other}'; make them disjoint, or set `duplicates: drop`"
            )
        if shared:
            keep = np.setdiff1d(np.arange(len(split)), shared)
            if not len(keep):
                raise DataError(f"split '{key}' is empty once its copies of other splits are dropped; give it others")
            splits[key] = split.take(keep)
        for i, digest in digests.items():
            seen.setdefault(digest, (key, i))
    return splits


def _find_suspects(splits: Mapping[str, Split]) -> dict[str, list[int]]:
    """Return the samples of each split of which a piece is also in another split: only these are read in full."""
    pieces = {key: [_hash_piece(row) for _, row in _rows(split, range(len(split)))] for key, split in splits.items()}
    holders = Counter(piece for each in pieces.values() for piece in {*each})
    return {key: [i for i, piece in enumerate(each) if holders[piece] > 1] for key, each in pieces.items()}


def _hash_piece(arrays: Sequence[np.ndarray]) -> int:
    """Hash the beginning and the middle of a sample."""
    pieces = []
    for array in arrays:
        values, count = array.reshape(-1), max(1, _PIECE // array.itemsize)
        middle = array.size // 2
        pieces += [values[:count].tobytes(), values[middle : middle + count].tobytes()]
    return hash(tuple(pieces))


def _rows(split: Split, rows: Sequence[int]) -> Iterator[tuple[int, tuple[np.ndarray, ...]]]:
    for count, i in enumerate(rows, start=1):
        yield i, tuple(array[i] for array in split.inputs.values())
        if count % DEFAULT_BATCH_SIZE == 0:
            release_pages()


def _hash_sample(arrays: Sequence[np.ndarray]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def check_same_format(splits: Mapping[str, Split]) -> None:
    """Check that all splits have samples of one shape and dtype.

    Raises:
        DataError: Two splits differ, or one is empty.
    """
    for split in splits.values():
        if not len(split):
            raise DataError(f"split '{split.name}' is empty; give it at least one sample")
    first, *others = splits.values()
    for split in others:
        ours, theirs = _describe_format(split), _describe_format(first)
        if ours != theirs:
            raise DataError(
                f"split '{split.name}' holds samples of {ours} and split '{first.name}' of {theirs}; "
                "give all splits one shape and type"
            )


def _describe_format(split: Split) -> str:
    formats = {name: f"{array.dtype} {list(array.shape[1:])}" for name, array in sorted(split.inputs.items())}
    return ", ".join(f"{name} {form}".strip() for name, form in formats.items())


def check_labels(splits: Mapping[str, Split], classes: int, names: list[str] | None) -> None:
    """Check that labels are classes of the model.

    Args:
        splits: By name.
        classes: Number of the model's classes C.
        names: `data.classes`, or None.

    Raises:
        DataError: A label is outside 0..C-1, or the number of names is not C.
    """
    if names is not None and len(names) != classes:
        raise DataError(f"key 'data.classes' names {len(names)} classes, the model has {classes}; name each once")
    for split in [split for key, split in splits.items() if key != UNLABELLED]:
        wrong = np.flatnonzero((split.labels < 0) | (split.labels >= classes))
        if len(wrong):
            row = wrong[0]
            raise DataError(
                f"split '{split.name}' has label {split.labels[row]} of sample {row}, the model only classes 0 to "
                f"{classes - 1}; map the labels"
            )
