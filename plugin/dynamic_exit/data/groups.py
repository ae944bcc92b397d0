"""Groups of samples, such as the sites that they come from: what limits on losses may be kept for."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import DataError
from ..recipe.data import DataSource
from ..sources.class_names import abbreviate
from ..sources.spelling import Note
from .arrays import to_labels
from .reader import Samples


def refuse_groups(source: DataSource) -> None:
    """Refuse groups of a source that has neither columns nor arrays.

    Raises:
        DataError: The stanza names groups.
    """
    if source.groups is not None:
        raise DataError(
            f"`data.groups` names '{source.groups}', and samples of `source: {source.source}` have no columns; give "
            "them by a function that returns a dict with 'images', 'labels' and the groups"
        )


def number_groups(samples: dict[str, Samples], key: str | int, note: Note) -> dict[str, np.ndarray]:
    """Take the column or array of groups out of the inputs, and number its values.

    Args:
        samples: Inputs and labels by split, the groups among the inputs; these are replaced in place.
        key: The column or array.
        note: Receives what each number stands for.

    Returns:
        int64 (N,) by split, from 0, in the order of the values.

    Raises:
        DataError: A split has no such column, or values that are no groups: missing ones, fractions, or more than one
            for a sample.
    """
    found = {name: _take(samples, name, key) for name in samples}
    kinds = {type(value) for values in found.values() for value in values}
    values = sorted({*(value for each in found.values() for value in each)}, key=str if len(kinds) > 1 else None)
    place = {value: number for number, value in enumerate(values)}
    shown = abbreviate([f"{number} is {value!r}" for number, value in enumerate(values)])
    note(f"{len(values)} groups of samples by '{key}': {shown}")
    return {name: np.asarray([place[value] for value in each], dtype=np.int64) for name, each in found.items()}


def _take(samples: dict[str, Samples], name: str, key: str | int) -> list[Any]:
    inputs, labels = samples[name]
    if not isinstance(inputs, Mapping) or str(key) not in inputs:
        have = ", ".join(filter(None, map(str, inputs))) if isinstance(inputs, Mapping) else ""
        beside = f"; it has {have} beside its labels" if have else ""
        raise DataError(
            f"split '{name}' has no column or array '{key}' of groups{beside}; name another in `data.groups`, or give "
            "the samples by a function that returns it in a dict with 'labels'"
        )
    samples[name] = {each: array for each, array in inputs.items() if each != str(key)}, labels
    array = to_labels(inputs[str(key)], f"split '{name}' by '{key}'")
    values = array.tolist()
    if array.ndim != 1 or len(values) != len(to_labels(labels, f"split '{name}'")):
        raise DataError(f"'{key}' of split '{name}' must hold one group for each sample; got {list(array.shape)}")
    for row, value in enumerate(values):
        if not isinstance(value, str | bytes | bool | int) or value in ("", b""):
            missing = value in (None, "", b"") or (isinstance(value, float) and math.isnan(value))
            odd = "nothing" if missing else repr(value)
            raise DataError(
                f"'{key}' of split '{name}' has {odd} in sample {row}; groups are names or whole numbers, one for each "
                "sample"
            )
    return values
