"""Labels of text files, as one reading for all files understands them."""

import json
import re
from collections.abc import Collection, Sequence
from typing import Any

from ...errors import DataError
from ..class_names import whole_number
from .text_files import TextRows

_FRACTION = re.compile(r"\s*[+-]?[0-9]*[.,][0-9]+\s*", re.ASCII)


def read_labels(file: TextRows, names: Collection[str]) -> list[Any]:
    """Return the labels of a file, each as a name where it is the name of a class that is spelled otherwise.

    JSON has ``1.0`` for 1 and ``true`` for a word; what writes tables makes ``1.0`` of whole numbers, too.

    Args:
        file: Its rows.
        names: Of the classes; none where nobody names them.

    Returns:
        N strings, whole numbers or truth values.

    Raises:
        DataError: A label is missing, a fraction, or more than one.
    """
    what = f"text file '{file.path}'"
    return [_read(label, names, what, line) for label, line in zip(file.labels, file.lines, strict=True)]


def group_alike(files: Sequence[Sequence[Any]], names: Collection[str]) -> list[list[int]]:
    """Group files by whether their labels are names or numbers.

    One file holds names, or numbers. Where names are numbers a file may be read either way: it is then read as the
    others are, so that a test set that lacks a class means what its training set does, and else by name.

    Args:
        files: Labels of each, as `read_labels` gives them.
        names: Of the classes; none where nobody names them.

    Returns:
        Indices of files; labels of one group are all names or all numbers, or else there is something wrong with them.
    """
    if not names:
        return [[*range(len(files))]]
    by_name = [all(label in names for label in labels) for labels in files]
    by_number = [all(whole_number(label) is not None for label in labels) for labels in files]
    only_names = any(name and not number for name, number in zip(by_name, by_number, strict=True))
    only_numbers = any(number and not name for name, number in zip(by_name, by_number, strict=True))
    doubtful = only_names or not only_numbers
    named = [i for i, name in enumerate(by_name) if name and (doubtful or not by_number[i])]
    return [group for group in (named, [i for i in range(len(files)) if i not in named]) if group]


def _read(label: Any, names: Collection[str], what: str, line: int) -> Any:
    if isinstance(label, str) and label in names:
        return label
    if label is None or (isinstance(label, str) and not label.strip()):
        raise DataError(f"{what} has no label in line {line}; leave the line out")
    if isinstance(label, list | dict):
        said = f"{json.dumps(label)} in line {line}: multi-label classification is not supported"
        raise DataError(f"{what} has the labels {said}; give each text one class")
    whole = whole_number(label)
    if whole is None:
        if isinstance(label, float) or _FRACTION.fullmatch(str(label)):
            said = f"the label {label} in line {line}: regression is not supported"
            raise DataError(f"{what} has {said}; give each text the number or the name of a class")
        return label
    spellings = [json.dumps(label)] if isinstance(label, bool) else [str(whole)]
    return next((name for name in (str(label), *spellings) if name in names), label)
