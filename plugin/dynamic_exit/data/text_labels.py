"""Labels of text files, interpreted consistently across files."""

import json
import re
from collections.abc import Collection, Sequence
from typing import Any

from ..errors import DataError
from ..sources.class_names import as_integer
from .text_files import TextRows, is_missing

_FRACTION = re.compile(r"\s*[+-]?[0-9]*[.,][0-9]+\s*", re.ASCII)


def read_labels(file: TextRows, names: Collection[str]) -> list[Any]:
    """Return the labels of a file without blanks around them, replaced by class names where only the spelling differs.

    JSON may hold ``1.0`` for 1 and ``true`` for a word; programs that write tables also make ``1.0`` of integers.

    Args:
        file: Its rows.
        names: The class names; empty if unknown.

    Returns:
        N strings, whole numbers or booleans.

    Raises:
        DataError: A label is missing, a fraction, or a list of labels.
    """
    what = f"text file '{file.path}'"
    return [_read(label, names, what, line) for label, line in zip(file.labels, file.lines, strict=True)]


def group_by_label_kind(files: Sequence[Sequence[Any]], names: Collection[str]) -> list[list[int]]:
    """Group files by whether their labels are names or numbers.

    If class names are numbers, a file may be read either way. It is then read like the other files, so that a test set
    without samples of a class is read like its training set; if those do not decide it, by name.

    Args:
        files: Labels of each file, from `read_labels`.
        names: The class names; empty if unknown.

    Returns:
        Indices of files. The labels of one group are all names or all numbers, unless some are invalid.
    """
    if not names:
        return [[*range(len(files))]]
    by_name = [all(label in names for label in labels) for labels in files]
    by_number = [all(as_integer(label) is not None for label in labels) for labels in files]
    only_names = any(name and not number for name, number in zip(by_name, by_number, strict=True))
    only_numbers = any(number and not name for name, number in zip(by_name, by_number, strict=True))
    prefer_names = only_names or not only_numbers
    named = [i for i, name in enumerate(by_name) if name and (prefer_names or not by_number[i])]
    return [group for group in (named, [i for i in range(len(files)) if i not in named]) if group]


def _read(label: Any, names: Collection[str], what: str, line: int) -> Any:
    if isinstance(label, str) and label in names:
        return label
    label = label.strip() if isinstance(label, str) else label  # as it is left beside commas
    if is_missing(label):
        raise DataError(f"{what} has no label in line {line}; leave the line out")
    if isinstance(label, list | dict):
        reason = f"{json.dumps(label)} in line {line}: multi-label classification is not supported"
        raise DataError(f"{what} has the labels {reason}; give each text one class")
    whole = as_integer(label)
    if whole is None:
        if isinstance(label, float) or _FRACTION.fullmatch(str(label)):
            reason = f"the label {label} in line {line}: regression is not supported"
            raise DataError(f"{what} has {reason}; give each text the number or the name of a class")
        return label
    spellings = [json.dumps(label)] if isinstance(label, bool) else [str(whole)]
    return next((name for name in (str(label), *spellings) if name in names), label)
