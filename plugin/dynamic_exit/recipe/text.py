"""Files of labelled text, as token indices."""

import csv
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

import numpy as np

from ..errors import DataError, first_line, nearest
from ..passes import ModelSource
from .labels import labels_of
from .schema import DataSource

#: How files of text may end, ``.gz`` behind it or not.
ENDINGS = (".csv", ".tsv", ".jsonl")
# a tokenizer that knows no limit says an absurdly large one
_NO_LIMIT = 1_000_000


def load_tokenizer(source: DataSource, model: ModelSource | None) -> Any:
    """Load the tokenizer of a recipe's text.

    Args:
        source: May name it.
        model: The backbone's stanza; a Hugging Face model brings its own.

    Returns:
        A tokenizer of transformers, which can pad.

    Raises:
        DataError: Nobody names one, it cannot be loaded, or it cannot pad.
    """
    from transformers import AutoTokenizer

    own = model.name if model is not None and model.source == "transformers" else None
    name = source.text.tokenizer or own
    if name is None:
        raise DataError(
            "text needs a tokenizer and the model brings none; name a folder or a model in `data.text.tokenizer`"
        )
    if Path(name).is_absolute() and not any(Path(name).glob("*token*")) and not any(Path(name).glob("vocab*")):
        raise DataError(f"folder '{name}' holds no tokenizer; save one there, or name another in `data.text.tokenizer`")
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except Exception as error:  # the hub, the disk and each tokenizer raise classes of their own
        reason = first_line(error)
        raise DataError(
            f"tokenizer '{name}' cannot be loaded: {reason}; name another in `data.text.tokenizer`"
        ) from error
    if tokenizer.pad_token is None:
        raise DataError(f"tokenizer '{name}' has no token to fill texts up with; give it a `pad_token` and save it")
    return tokenizer


class TextReader:
    """Reads and tokenizes the text of all splits, filled up to one length.

    Args:
        source: The stanza.
        names: Of the splits: of files in `source.path`, with or without their endings, unless that is one file.
        model: The backbone's stanza.

    Raises:
        DataError: A file, a column or the tokenizer is missing, or a label is unknown.
    """

    def __init__(self, source: DataSource, names: Sequence[str], model: ModelSource | None):
        self.source, self.path = source, Path(source.path)
        tokenizer, classes = load_tokenizer(source, model), _classes(source, model)
        limit = source.text.max_length or tokenizer.model_max_length
        cut = {"truncation": True, "max_length": limit} if limit < _NO_LIMIT else {}
        self._samples = {}
        for name in dict.fromkeys(names):
            file = find_file(self.path, name)
            texts, labels = read_text(file, source.text.columns, classes)
            self._samples[name] = (tokenizer(*texts, **cut), labels)
        longest = max(len(ids) for tokens, _ in self._samples.values() for ids in tokens["input_ids"])
        length = limit if source.text.padding == "max_length" else max(longest, 2)
        for name, (tokens, labels) in self._samples.items():
            padded = tokenizer.pad(tokens, padding="max_length", max_length=length, return_tensors="np")
            self._samples[name] = ({key: array.astype(np.int64) for key, array in padded.items()}, labels)

    def __call__(self, name: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return token indices and masks int64 (N, L) by name, and labels int64 (N,), of one split."""
        return self._samples[name]


def find_file(path: Path, name: str) -> Path:
    """Find the file of text that a split names.

    Raises:
        DataError: There is none, or more than one.
    """
    if path.is_file():
        return path
    files = sorted(each for each in path.iterdir() if _ending(each) is not None)
    found = [each for each in files if name in (each.name, each.name.removesuffix(".gz"), each.name.split(".")[0])]
    if len(found) != 1:
        said = f"{len(found)} files of the name '{name}'" if found else f"no text file '{name}'"
        hint = "write the ending, too" if found else nearest(name, {each.name.split(".")[0] for each in files})
        raise DataError(f"data folder '{path}' has {said}; {hint}")
    return found[0]


def _ending(path: Path) -> str | None:
    name = path.name.removesuffix(".gz")
    return next((ending for ending in ENDINGS if name.endswith(ending)), None)


def read_text(path: Path, columns: Any, classes: Sequence[str] | None) -> tuple[tuple[list[str], ...], np.ndarray]:
    """Read a file of labelled text.

    Args:
        path: ``.csv``, ``.tsv`` (without quotes) or ``.jsonl`` (an object a line), packed by gzip or not.
        columns: `schema.Columns`: which are text, pair and label.
        classes: Names of the classes in the order of their numbers; None where labels are numbers.

    Returns:
        One list of texts, or two where texts come in pairs, and labels int64 (N,).

    Raises:
        DataError: It cannot be read, lacks a column, or has a label that is no class.
    """
    if _ending(path) is None:
        raise DataError(f"text file '{path}' must end in {', '.join(ENDINGS)}, with or without .gz")
    wanted = [each for each in (columns.text, columns.pair, columns.label) if each is not None]
    numbers = {name: index for index, name in enumerate(classes or ())}
    rows = []
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8", newline="") as file:
            for line, row in _rows(file, _ending(path), isinstance(columns.text, str), path):
                *texts, label = (_cell(row, each, line, path) for each in wanted)
                rows.append((*map(str, texts), _number(label, numbers, line, path)))
    except (OSError, EOFError, ValueError, csv.Error) as error:
        raise DataError(f"text file '{path}' cannot be read: {first_line(error)}; repair it") from error
    if not rows:
        raise DataError(f"text file '{path}' holds no samples")
    *texts, labels = map(list, zip(*rows, strict=True))
    return tuple(texts), np.asarray(labels, np.int64)


def _rows(file: TextIO, ending: str, named: bool, path: Path) -> Iterator[tuple[int, Mapping | Sequence]]:
    """Yield each row with the number of its line."""
    if ending == ".jsonl":
        if not named:
            raise DataError(f"text file '{path}' has keys, no numbered columns; name the keys in `data.text.columns`")
        yield from ((line, json.loads(text)) for line, text in enumerate(file, start=1) if text.strip())
        return
    # tabs need no quotes, and single ones are part of the text
    options = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if ending == ".tsv" else {}
    rows = csv.reader(file, strict=True, **options)
    header = next(rows, []) if named else None
    for row in rows:
        if row:
            yield rows.line_num, dict(zip(header, row, strict=False)) if header else row


def _cell(row: Any, column: str | int, line: int, path: Path) -> Any:
    if isinstance(row, Mapping) and column in row:
        return row[column]
    if isinstance(row, list) and isinstance(column, int) and column < len(row):
        return row[column]
    known = ", ".join(row) if isinstance(row, Mapping) else f"{len(row)} columns" if isinstance(row, list) else "none"
    raise DataError(
        f"text file '{path}' has no column '{column}' in line {line} (there: {known}); set `data.text.columns`"
    )


def _number(label: Any, numbers: Mapping[str, int], line: int, path: Path) -> int:
    if str(label) in numbers:
        return numbers[str(label)]
    try:
        return int(str(label))
    except ValueError:
        hint = nearest(str(label), numbers) if numbers else "name the classes in `data.classes`"
        raise DataError(
            f"text file '{path}' has the label '{label}' in line {line}, which is no class; {hint}"
        ) from None


def _classes(source: DataSource, model: ModelSource | None) -> Sequence[str] | None:
    """Names of the classes as the recipe, or else the backbone, tells them."""
    from transformers import AutoConfig

    if source.classes or model is None:
        return source.classes
    config = None
    if model.source == "transformers":
        try:
            config = AutoConfig.from_pretrained(model.name)
        except Exception as error:  # the hub and the disk raise classes of their own
            raise DataError(f"the classes of model '{model.name}' cannot be read: {first_line(error)}") from error
    return labels_of(model, SimpleNamespace(config=config))
