"""Loads the splits that a recipe names."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from ..errors import DataError
from ..images import ImageReading
from ..passes import ModelSource
from ..recipe.data import DATA_SOURCES, DataSource
from ..sources.class_names import ClassNames, abbreviate, encode_labels, find_class_names
from ..sources.spelling import Note
from .arrays import to_labels
from .checks import check_samples, resolve_overlaps
from .groups import number_groups
from .reader import ReadRequest, Samples, SplitReader
from .slices import parse_slice
from .split import UNLABELLED, Split


def load_splits(
    source: DataSource,
    seed: int,
    model: ModelSource | None = None,
    known: ClassNames | None = None,
    note: Note = lambda line: None,
    images: ImageReading | None = None,
) -> dict[str, Split]:
    """Load the splits and check that they can be used together.

    Args:
        source: The stanza.
        seed: Decides the order in which slices are taken.
        model: The backbone's stanza; text uses its tokenizer unless `source` names one.
        known: The class names; None takes those that `source` or `model` state.
        note: Receives notes on what was left out of the data or changed in them.
        images: How images are read; None: in color, all of one size.

    Returns:
        ``train``, ``calibration``, ``test`` and, if it is named, ``unlabelled``, whose labels are -1.

    Raises:
        DataError: A split is missing, empty, malformed, holds NaN, or shares samples with another.
    """
    slices = {key: parse_slice(name) for key, name in source.splits.names.items()}
    names = [name for name, _ in slices.values()]
    # on demand only: labels that are numbers need no names, and so no configuration of the model
    find_names = partial(_find_names, known, source, model)
    request = ReadRequest(names, model, find_names, note, images or ImageReading())
    read: SplitReader = DATA_SOURCES.find(source.source).make(source, request)
    samples = {name: read(name) for name in dict.fromkeys(names)}
    groups = {} if source.groups is None else number_groups(samples, source.groups, note)
    class_names = getattr(read, "class_names", None) or encode_label_names(samples, find_names, note)
    splits = {}
    for key, (name, share) in slices.items():
        form = getattr(read, "image_format", None)
        checked = check_samples(*samples[name], split=key)
        split = Split(key, *checked, class_names and tuple(class_names), form, groups.get(name))
        if share:
            rows = draw_order(split.labels if source.stratify else np.zeros(len(split), np.int64), seed)
            split = split.take(rows[int(share[0] * len(rows)) : int(share[1] * len(rows))])
        if not len(split):
            raise DataError(f"split '{key}' is empty ('{getattr(source.splits, key)}'); give it at least one sample")
        if source.layout == "channels_last" and form is None:
            split.inputs.update({name: _to_channels_first(array) for name, array in split.inputs.items()})
        splits[key] = replace(split, labels=np.full(len(split), -1)) if key == UNLABELLED else split
    splits = resolve_overlaps(splits, source.duplicates)
    _note_absent_classes(splits, note)
    return splits


def draw_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """Draw an order of samples in which every stretch holds each label in proportion.

    Args:
        labels: int64 (N,); if all are alike, the order is `Generator.permutation`'s.
        seed: Decides the order.

    Returns:
        Rows int64 (N,).
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    place = np.empty(len(labels))
    for label in np.unique(labels):
        own = np.flatnonzero(labels[order] == label)
        place[own] = (np.arange(len(own)) + 0.5) / len(own)
    return order[np.argsort(place, kind="stable")]


def _note_absent_classes(splits: dict[str, Split], note: Note) -> None:
    """Note the classes that only other splits have."""
    found = {key: {*np.unique(split.labels).tolist()} for key, split in splits.items() if key != UNLABELLED}
    every = set().union(*found.values())
    for key, labels in found.items():
        names, absent = splits[key].class_names, sorted(every - labels)
        if absent:
            what = "samples" if splits[key].image_format is None else "images"
            shown = abbreviate([names[label] if names else f"class {label}" for label in absent])
            note(f"'{key}' holds no {what} of {shown}")


def _find_names(known: ClassNames | None, source: DataSource, model: ModelSource | None) -> ClassNames | None:
    return known or find_class_names(source, model)


def encode_label_names(
    samples: dict[str, Samples], find_names: Callable[[], ClassNames | None], note: Note = lambda line: None
) -> tuple[str, ...] | None:
    """Replace labels that are names by class numbers, consistently in all splits.

    Args:
        samples: Inputs and labels by split; labels that are names are replaced in place.
        find_names: Finds the class names, on demand.
        note: Receives notes on the labels.

    Returns:
        The class names in the order of their numbers; None if the labels are numbers already.

    Raises:
        DataError: A label is not a class.
    """
    labels = {split: to_labels(split_labels, f"split '{split}'") for split, (_, split_labels) in samples.items()}
    named = any(array.dtype.kind in "USO" for array in labels.values())
    if not named or any(array.ndim != 1 for array in labels.values()):
        return None  # labels of another shape are refused later
    positions = [(split, row) for split, array in labels.items() for row in range(len(array))]
    flat = [label for array in labels.values() for label in array.tolist()]
    flat = [label.decode(errors="backslashreplace") if isinstance(label, bytes) else label for label in flat]

    def locate(index: int) -> tuple[str, str]:
        split, row = positions[index]
        return f"split '{split}'", f" in sample {row}"

    numbers, names = encode_labels(flat, find_names(), locate, note)
    ends = np.cumsum([len(array) for array in labels.values()])
    for split, encoded in zip(labels, np.split(numbers, ends[:-1]), strict=True):
        samples[split] = (samples[split][0], encoded)
    return tuple(names) if names else None


def _to_channels_first(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(array, -1, 1)) if array.ndim == 4 else array
