"""Texts in CSV, TSV or JSON lines: a file, or a folder with a file for each split."""

from collections import Counter
from typing import Any

from ...data.text_files import TextRows, is_text_file, read_text
from ...errors import DataError
from ...recipe.data import Columns
from ..splits import check_counts
from .base import DataRequest, FoundData
from .columns import find_columns

_SHOWN = 6


def find_texts(request: DataRequest) -> FoundData | None:
    """Return what a text file, or a folder of them, holds; None if the path is neither.

    Raises:
        DataError: A file cannot be read, or its columns are not there.
    """
    path = request.file
    if path.is_dir():
        files = {each.name.split(".")[0]: each for each in sorted(path.iterdir()) if is_text_file(each)}
    else:
        files = {"": path} if is_text_file(path) else {}
    if not files:
        return None
    for file in files.values():
        if not file.is_file():
            raise DataError(f"data path '{file}' does not exist; check the path")
    columns = find_columns(next(iter(files.values())), request.text_column, request.label_column, request.ask)
    rows = {name: read_text(file, columns, drop_missing=True) for name, file in files.items()}
    chosen = request.choose({name: len(each.lines) for name, each in rows.items()})
    used = sorted({name.partition("[")[0] for name in chosen.names.values()})
    counts = Counter(_name(label) for name in used for label in rows[name].labels)
    notes = check_counts(counts, chosen.drawn, f"'{request.path}'")
    keys: dict[str, Any] = {"text": _stanza(columns, list(rows.values()))}
    if chosen.drawn:
        keys |= {"stratify": True, "duplicates": "drop"}
    names = sorted(counts)
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    where = f"text from column {columns.text!r}, label from {columns.label!r}"
    described = f"{sum(counts.values())} texts of {len(counts)} classes ({shown}); {where}"
    return FoundData("text", request.path, chosen, "texts", len(counts), described, keys, notes)


def _stanza(columns: Columns, files: list[TextRows]) -> dict[str, Any]:
    given = {key: value for key, value in columns.model_dump().items() if value is not None}
    stanza: dict[str, Any] = {} if columns == Columns() else {"columns": given}
    return {**stanza, **({"missing": "drop"} if any(file.dropped for file in files) else {})}


def _name(label: Any) -> str:
    return label.strip() if isinstance(label, str) else str(label)
