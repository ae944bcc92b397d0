"""Texts in CSV, TSV or JSON lines, through the folder's own tokenizer."""

from collections.abc import Generator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from ..artifact.manifest import TEXT
from ..artifact.preparation import TextPreparation
from ..data.text_files import ENDINGS, as_text, is_text_file, stream_cells
from ..errors import DataError
from .rows import Prepared, Row, RowRequest, RowSource, check_task, file_stamp, missing_package

WHAT = f"a text file ({', '.join(ENDINGS)}, with or without .gz)"


def takes(data: Path) -> bool:
    """Whether the data may be of this kind."""
    return data.is_file() and is_text_file(data)


def open_rows(request: RowRequest) -> RowSource:
    """Open a text file.

    Raises:
        DataError: The model takes no texts, or its folder has no tokenizer.
    """
    return TextRows(request)


class TextRows:
    """Texts, or pairs of them, in the order of the file; a `RowSource`."""

    def __init__(self, request: RowRequest):
        check_task(request, TEXT, "of texts")
        manifest = request.manifest
        if not manifest.tokenizer_files:
            raise DataError(
                f"the model in '{request.folder}' has no tokenizer; give its inputs as an .npz file of token indices"
            )
        self._path, self.stamp = request.data, file_stamp(request.data)
        self._columns = request.columns or _recipe_columns(request.folder)
        self.settings: list[Any] = [*self._columns]
        try:
            self._preparation = TextPreparation(request.folder, manifest.inputs, manifest.max_tokens)
        except ModuleNotFoundError as error:
            raise missing_package(error.name, "texts") from error

    def rows(self, start: int) -> Generator[Row, None, None]:
        """Yield texts with their lines, as `RowSource.rows`; a row is one of the data, a header is none."""
        with closing(stream_cells(self._path, self._columns, "--column")) as found:
            for number, (line, cells) in enumerate(islice(found, start, None), start):
                texts = [as_text(cell, each, line, self._path) for cell, each in zip(cells, self._columns, strict=True)]
                yield Row(number, (line, texts))

    def count(self) -> int:
        """Return how many texts there are, as `RowSource.count`."""
        with closing(stream_cells(self._path, self._columns, "--column")) as found:
            return sum(1 for _ in found)

    def prepare(self, rows: Sequence[Row]) -> Prepared:
        """Tokenize texts, cut where the recipe cuts them, as `RowSource.prepare`."""
        columns = map(list, zip(*(texts for _, (_, texts) in rows), strict=True))
        tokens = self._preparation.tokenize(*columns, truncate=True)
        faults = {
            place: f"text file '{self._path}' has no word in line {rows[place].value[0]} that becomes a token"
            for place, indices in enumerate(tokens["input_ids"])
            if not indices
        }
        if len(faults) == len(rows):
            return Prepared({}, faults)
        kept = {
            name: [each for place, each in enumerate(values) if place not in faults] for name, values in tokens.items()
        }
        return Prepared(self._preparation.pad(kept), faults)


def _recipe_columns(folder: Path) -> tuple[str | int, ...]:
    """Return the columns of texts by the recipe in the folder, or by default."""
    from ..analysis.samples import text_options  # which brings torch, and arrays do without

    columns = text_options(folder).get("columns")
    named = columns if isinstance(columns, dict) else {}
    return tuple(each for each in (named.get("text", "text"), named.get("pair")) if isinstance(each, str | int))
