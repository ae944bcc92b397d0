"""Files of labeled text in CSV, TSV or JSON lines, read strictly, with line numbers for messages."""

import csv
import json
import math
import sys
import zlib
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from ..errors import DataError, first_line, nearest
from ..recipe.data import Columns
from .open_text import open_text

#: Endings of text files, each with an optional ``.gz``.
ENDINGS = (".csv", ".tsv", ".jsonl")
_Row = Mapping[str, Any] | Sequence[str]


@dataclass(frozen=True)
class TextRows:
    """The rows of one file.

    Attributes:
        path: The file.
        texts: One list of N texts, or two if texts come in pairs.
        labels: N labels as in the file: strings, or also numbers and booleans in JSON.
        lines: The N line numbers, from 1, where the rows begin.
        dropped: How many rows were left out.
        groups: N groups as in the file; empty if none were asked for.
    """

    path: Path
    texts: tuple[list[str], ...]
    labels: list[Any]
    lines: list[int]
    dropped: int = 0
    groups: Sequence[Any] = ()


def is_missing(value: Any) -> bool:
    """Whether a text or label is null, NaN, or blank."""
    blank = isinstance(value, str) and not value.strip()
    return value is None or blank or (isinstance(value, float) and math.isnan(value))


def find_file(path: Path, name: str) -> Path:
    """Find the text file of a split.

    Raises:
        DataError: There is none, or more than one.
    """
    if path.is_file():
        return path
    files = sorted(each for each in path.iterdir() if _ending(each) is not None)
    matches = [each for each in files if name in (each.name, each.name.removesuffix(".gz"), each.name.split(".")[0])]
    if len(matches) != 1:
        reason = f"{len(matches)} files of the name '{name}'" if matches else f"no text file '{name}'"
        hint = "write the ending, too" if matches else nearest(name, {each.name.split(".")[0] for each in files})
        raise DataError(f"data folder '{path}' has {reason}; {hint}")
    return matches[0]


def is_text_file(path: Path) -> bool:
    """Whether a file is named as one of text."""
    return _ending(path) is not None


def _ending(path: Path) -> str | None:
    name = path.name.lower().removesuffix(".gz")
    return next((ending for ending in ENDINGS if name.endswith(ending)), None)


def read_text(path: Path, columns: Columns, drop_missing: bool = False, groups: str | int | None = None) -> TextRows:
    """Read a file of labeled text.

    Args:
        path: ``.csv``, ``.tsv`` (without quotes) or ``.jsonl`` (an object per line), with or without ``.gz``, in UTF-8.
        columns: The columns of text, pair and label.
        drop_missing: Whether rows without a text or a label are left out.
        groups: A column of groups.

    Returns:
        The rows, without blank lines.

    Raises:
        DataError: It cannot be read, lacks a column or has one twice, its rows differ in width, or a text is not a
            string.
    """
    text_columns = [each for each in (columns.text, columns.pair) if each is not None]
    wanted = [*text_columns, columns.label, *([] if groups is None else [groups])]
    texts: list[list[str]] = []
    labels: list[Any] = []
    lines: list[int] = []
    grouped: list[Any] = []
    dropped, end = 0, len(text_columns) + 1
    with closing(stream_cells(path, wanted)) as rows:
        for line, cells in rows:
            if drop_missing and any(map(is_missing, cells[:end])):
                dropped += 1
                continue
            texts.append([as_text(cell, each, line, path) for cell, each in zip(cells, text_columns, strict=False)])
            labels.append(cells[end - 1])
            lines.append(line)
            grouped += cells[end:]
    if not lines:
        raise DataError(f"text file '{path}' holds no samples")
    return TextRows(path, tuple(map(list, zip(*texts, strict=True))), labels, lines, dropped, grouped)


def stream_cells(
    path: Path, columns: Sequence[str | int], option: str = "`data.text.columns`"
) -> Generator[tuple[int, list[Any]], None, None]:
    """Read some columns of a text file, row by row.

    Args:
        path: As for `read_text`.
        columns: Names alone, or numbers alone; at least one.
        option: Where columns are named, for messages.

    Yields:
        The line number, from 1, where a row begins, and its cells in the order of `columns`.

    Raises:
        DataError: As for `read_text`.
    """
    ending = _ending(path)
    if ending is None:
        raise DataError(f"text file '{path}' must end in {', '.join(ENDINGS)}, with or without .gz")
    longest = csv.field_size_limit(sys.maxsize)  # of all readers in the process, so it is set back
    try:
        with open_text(path) as file:
            for line, row in _rows(file, ending, isinstance(columns[0], str), path, option):
                yield line, [_cell(row, each, line, path, option) for each in columns]
    except UnicodeDecodeError as error:
        raise DataError(f"text file '{path}' cannot be read: {error}; save it as UTF-8") from error
    except (OSError, EOFError, ValueError, csv.Error, zlib.error) as error:
        raise DataError(f"text file '{path}' cannot be read: {first_line(error)}; repair it") from error
    finally:
        csv.field_size_limit(longest)


def _rows(file: TextIO, ending: str, named: bool, path: Path, option: str) -> Iterator[tuple[int, _Row]]:
    """Yield each row with the line number where it begins."""
    if ending == ".jsonl":
        if not named:
            raise DataError(f"text file '{path}' has keys, no numbered columns; name the keys in {option}")
        yield from _objects(file, path)
        return
    if ending == ".tsv":  # tabs need no quotes, and quotes are part of the text
        reader = csv.reader(file, strict=True, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(file, strict=True)
    first: tuple[int, int] | None = None
    header: list[str] | None = None
    for line, row in _cells(reader):
        if first is None:
            first = line, len(row)
            _check_separator(row, ending, line, path)
            if named:
                header = row
                _check_unique(header, path)
                continue
        if len(row) != first[1]:
            hint = "texts must hold no tabs" if ending == ".tsv" else "a text with a comma in it needs quotes"
            before = f"{first[1]} in line {first[0]}"
            raise DataError(f"text file '{path}' has {len(row)} columns in line {line} and {before}; {hint}")
        yield line, dict(zip(header, row, strict=True)) if header else row


def _check_separator(row: Sequence[str], ending: str, line: int, path: Path) -> None:
    """Refuse a file of one column, which is never enough, if other signs part it."""
    own, others = ("tabs", ",;|") if ending == ".tsv" else ("commas", ";\t|")
    other = next((sign for sign in others if sign in row[0]), None) if len(row) == 1 else None
    if other is not None:
        sign = "tabs" if other == "\t" else f"'{other}'"
        raise DataError(
            f"text file '{path}' has {sign} between its columns in line {line}, and a {ending} file has {own}; save it "
            f"with {own}"
        )


def _cells(rows: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank, with the line number where each begins."""
    before = 0
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(f"{error} in the row that begins in line {before + 1}") from error
        if len(row) > 1 or "".join(row).strip():
            yield before + 1, row
        before = rows.line_num  # a quoted cell may go over several lines


def _objects(file: TextIO, path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the object of each line of JSON, with the line number."""

    def make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        _check_unique([name for name, _ in pairs], path, line)
        return dict(pairs)

    for line, text in enumerate(file, start=1):
        if text.strip():
            try:
                yield line, json.loads(text, object_pairs_hook=make_object)
            except json.JSONDecodeError as error:  # whose own line is always the first
                raise ValueError(f"{error.msg} in line {line}, column {error.colno}") from error
            except ValueError as error:  # of Python's limit on digits
                raise ValueError(f"a number in line {line} has too many digits") from error
            except RecursionError as error:
                raise ValueError(f"lists in line {line} are too deep") from error


def _check_unique(names: Sequence[str], path: Path, line: int | None = None) -> None:
    """Refuse duplicate column names, or duplicate keys of one object."""
    name = next((name for name, count in Counter(names).items() if count > 1 and name), None)
    if name is not None:
        where = f"column '{name}' twice" if line is None else f"key '{name}' twice in line {line}"
        raise DataError(f"text file '{path}' has the {where}; keep one, or rename the other")


def _cell(row: Any, column: str | int, line: int, path: Path, option: str) -> Any:
    if isinstance(row, Mapping) and column in row:
        return row[column]
    if isinstance(row, list) and isinstance(column, int) and column < len(row):
        return row[column]
    known = ", ".join(row) if isinstance(row, Mapping) else f"{len(row)} columns" if isinstance(row, list) else "none"
    raise DataError(f"text file '{path}' has no column '{column}' in line {line} (there: {known}); set {option}")


def as_text(text: Any, column: str | int, line: int, path: Path) -> str:
    """Return a text; other values of JSON are refused, since converting them would change the text.

    Raises:
        DataError: It is no text, or holds what no text in UTF-8 can hold.
    """
    if not isinstance(text, str):
        hint = "leave the line out" if text is None else "write it as a string"
        said = f"has {json.dumps(text)} as '{column}' in line {line}, which is no text; {hint}"
        raise DataError(f"text file '{path}' {said}")
    if "\0" in text:
        raise DataError(f"text file '{path}' has a null character in line {line}; save it as text in UTF-8")
    try:
        text.encode()
    except UnicodeEncodeError as error:  # JSON can name the halves of a pair of UTF-16
        raise DataError(f"text file '{path}' has half of a character in line {line}; repair it") from error
    return text
