"""Files of labelled text, as token indices."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from ...passes import ModelSource
from ...recipe.data import DataSource
from ..class_names import Known, Note, number_labels
from ..tokenizer import load_tokenizer, token_limit
from .text_files import TextRows, find_file, read_text
from .text_labels import group_alike, read_labels


class TextReader:
    """Reads and tokenizes the text of all splits, filled up to one length.

    Args:
        source: The stanza.
        names: Of the splits: of files in `source.path`, with or without their endings, unless that is one file.
        model: The backbone's stanza.
        known: Names of the classes, where somebody tells them.
        note: Takes what the user should know about the labels.

    Attributes:
        class_names: In the order of the labels' numbers; None where the files hold numbers.

    Raises:
        DataError: A file, a column or the tokenizer is missing, a row is malformed, or a label is unknown.
    """

    def __init__(
        self,
        source: DataSource,
        names: Sequence[str],
        model: ModelSource | None,
        known: Known | None = None,
        note: Note = lambda line: None,
    ):
        tokenizer = load_tokenizer(source, model)
        path = Path(source.path)
        rows = {name: read_text(find_file(path, name), source.text.columns) for name in dict.fromkeys(names)}
        labels, self.class_names = _number(list(rows.values()), known, note)
        limit = token_limit(source, tokenizer)
        cut = {} if limit is None else {"truncation": True, "max_length": limit}
        tokens = {name: _tokenize(file, tokenizer, cut) for name, file in rows.items()}
        longest = max(len(ids) for each in tokens.values() for ids in each["input_ids"])
        length = limit if source.text.padding == "max_length" else max(longest, 2)
        self._samples = {}
        for name, given in zip(rows, labels, strict=True):
            padded = tokenizer.pad(tokens[name], padding="max_length", max_length=length, return_tensors="np")
            self._samples[name] = ({key: array.astype(np.int64) for key, array in padded.items()}, given)

    def __call__(self, name: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return token indices and masks int64 (N, L) by name, and labels int64 (N,), of one split."""
        return self._samples[name]


def _number(files: Sequence[TextRows], known: Known | None, note: Note) -> tuple[list[np.ndarray], list[str] | None]:
    """Return the classes of each file, and their names where any file holds names."""
    names = known.names if known is not None else ()
    labels = [read_labels(file, set(names)) for file in files]
    numbers, found = {}, None
    for group in group_alike(labels, names):
        places = [(files[i].path, line) for i in group for line in files[i].lines]
        flat, told = number_labels(
            [label for i in group for label in labels[i]],
            known,
            lambda i, places=places: (f"text file '{places[i][0]}'", f" in line {places[i][1]}"),
            note,
        )
        found = found or told
        ends = np.cumsum([len(labels[i]) for i in group])
        numbers.update(zip(group, np.split(flat, ends[:-1]), strict=True))
    return [numbers[i] for i in range(len(files))], found


def _tokenize(file: TextRows, tokenizer: Any, cut: dict[str, Any]) -> Any:
    tokens = tokenizer(*file.texts, **cut)
    empty = next((line for line, ids in zip(file.lines, tokens["input_ids"], strict=True) if not ids), None)
    if empty is not None:
        raise DataError(f"text file '{file.path}' has no word in line {empty} that becomes a token; leave the line out")
    return tokens
