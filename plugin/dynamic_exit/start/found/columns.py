"""Which columns of a text file hold the text and the label."""

import csv
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...data.open_text import open_text
from ...errors import DataError, first_line
from ...recipe.data import Columns
from ..questions import Ask, Question

_LABELS = ("label", "labels", "class", "category", "target", "sentiment", "topic", "intent", "y")
_TEXTS = ("text", "sentence", "review", "content", "question", "comment", "tweet", "message", "body", "title", "x")
_PAIRS = (("premise", "hypothesis"), ("sentence1", "sentence2"), ("question1", "question2"), ("text_a", "text_b"))
# rows that are looked at, and how many there are for each different label at least
_ROWS, _ROWS_PER_LABEL = 500, 3
_Columns = Mapping[str | int, Sequence[Any]]


def find_columns(path: Path, text: str | None, label: str | None, ask: Ask) -> Columns:
    """Find the columns of text, pair and label by their names, else by what they hold.

    Args:
        path: The file.
        text: Name or number that the user gives; None finds it.
        label: Likewise.
        ask: Answers which column it is where that is not plain.

    Raises:
        DataError: The file cannot be read, or has one column.
    """
    columns = _read(path)
    if len(columns) < 2:
        raise DataError(f"text file '{path}' has {len(columns)} columns; it needs one of text and one of labels")
    label_column = _as_column(label, columns) if label else _find_label(columns, path, ask)
    others = {name: values for name, values in columns.items() if name != label_column}
    if text:
        return Columns(text=_as_column(text, columns), label=label_column)
    lower = {str(name).lower(): name for name in others}
    for first, second in _PAIRS:
        if first in lower and second in lower:
            return Columns(text=lower[first], pair=lower[second], label=label_column)
    named = [lower[name] for name in _TEXTS if name in lower]
    return Columns(text=named[0] if named else max(others, key=lambda name: _length(others[name])), label=label_column)


def _find_label(columns: _Columns, path: Path, ask: Ask) -> str | int:
    lower = {str(name).lower(): name for name in columns}
    named = [lower[name] for name in _LABELS if name in lower]
    if named:
        return named[0]
    longest = max(columns, key=lambda name: _length(columns[name]))
    few = [name for name, values in columns.items() if name != longest and _repeats(values)]
    if len(few) == 1:
        return few[0]
    names = [str(name) for name in columns]
    about = f"which column of '{path}' holds the labels"
    return _as_column(ask(Question("--label-column", about, names, str(few[0]) if few else None)), columns)


def _as_column(name: str, columns: _Columns) -> str | int:
    return next((each for each in columns if str(each) == name), int(name) if name.isdigit() else name)


def _length(values: Sequence[Any]) -> float:
    return sum(len(value) for value in values if isinstance(value, str)) / max(1, len(values))


def _repeats(values: Sequence[Any]) -> bool:
    """Whether values are few and repeat, as labels do."""
    different = len({str(value) for value in values})
    return 1 < different and different * _ROWS_PER_LABEL <= len(values)


def _read(path: Path) -> _Columns:
    """Read the first rows, by column: its name, or its number without a header."""
    try:
        with open_text(path) as file:
            lines = list(itertools.islice((line for line in file if line.strip()), _ROWS))
        if ".jsonl" in path.name.lower():
            objects = [json.loads(line) for line in lines]
            return {name: [each.get(name) for each in objects] for name in objects[0]} if objects else {}
        tabs = ".tsv" in path.name.lower()
        reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE) if tabs else csv.reader(lines)
        rows = list(reader)
    except (OSError, EOFError, ValueError, csv.Error, AttributeError) as error:
        raise DataError(f"text file '{path}' cannot be read: {first_line(error)}; repair it") from error
    if not rows:
        raise DataError(f"text file '{path}' holds no samples")
    rows = [row for row in rows if len(row) == len(rows[0])]
    header = rows[0] if _is_header(rows) else None
    body = rows[1:] if header else rows
    names: Sequence[str | int] = header or range(len(rows[0]))
    return {name: [row[i] for row in body] for i, name in enumerate(names)}


def _is_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names columns: by known names, or as none of its cells stands in a column that repeats."""
    if {cell.strip().lower() for cell in rows[0]} & {*_LABELS, *_TEXTS}:
        return True
    repeating = [i for i in range(len(rows[0])) if _repeats([row[i] for row in rows[1:]])]
    return bool(repeating) and all(rows[0][i] not in {row[i] for row in rows[1:]} for i in repeating)
