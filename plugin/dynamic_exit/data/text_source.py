"""Text files as token indices."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..passes import ModelSource
from ..recipe.data import DataKind, DataSource
from ..sources.class_names import ClassNames, encode_labels
from ..sources.spelling import Note
from ..sources.text_tokens import Texts, tokenize_splits
from ..sources.tokenizer import load_tokenizer
from .reader import ReadRequest, SplitReader, find_path
from .text_files import TextRows, find_file, is_missing, read_text
from .text_labels import group_by_label_kind, read_labels


class TextReader:
    """Reads and tokenizes the text of all splits, padded to one length.

    Args:
        source: The stanza.
        names: The file of each split in the folder `source.path`, with or without its ending; ignored if `source.path`
            is a file.
        model: The backbone's stanza.
        known: The class names, if known.
        note: Receives notes on the labels.

    Attributes:
        class_names: In the order of the class numbers; None if the files hold numbers.

    Raises:
        DataError: A file, a column or the tokenizer is missing, a row is malformed, or a label is unknown.
    """

    def __init__(
        self,
        source: DataSource,
        names: Sequence[str],
        model: ModelSource | None,
        known: ClassNames | None = None,
        note: Note = lambda line: None,
    ):
        tokenizer = load_tokenizer(source, model)  # before any file: without one, nothing can be read
        path, options = Path(source.path), source.text_options
        rows = {
            name: read_text(find_file(path, name), options.columns, options.missing == "drop", source.groups)
            for name in dict.fromkeys(names)
        }
        for file in rows.values():
            _note_missing(file, note)
        labels, self.class_names = _encode(list(rows.values()), known, note)
        texts = {name: Texts(f"text file '{file.path}'", file.texts, "line", file.lines) for name, file in rows.items()}
        tokens = tokenize_splits(texts, source, tokenizer)
        groups = {
            name: {str(source.groups): np.asarray(file.groups, dtype=object)} if file.groups else {}
            for name, file in rows.items()
        }
        self._samples = {
            name: ({**tokens[name], **groups[name]}, numbers) for name, numbers in zip(rows, labels, strict=True)
        }

    def __call__(self, name: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return the token indices and masks of a split, each int64 (N, L), by name, and its labels int64 (N,)."""
        return self._samples[name]


def _note_missing(file: TextRows, note: Note) -> None:
    """Say which rows were left out, or are read though they hold no text."""
    if file.dropped:
        count = file.dropped + len(file.lines)
        note(f"{file.dropped} of {count} rows of text file '{file.path}' hold no text or no label and are left out")
    empty = [line for line, *texts in zip(file.lines, *file.texts, strict=True) if any(map(is_missing, texts))]
    if empty:
        note(
            f"{len(empty)} of {len(file.lines)} texts of text file '{file.path}' are empty, first in line {empty[0]}; "
            "`data.text.missing: drop` leaves them out"
        )


def _encode(
    files: Sequence[TextRows], known: ClassNames | None, note: Note
) -> tuple[list[np.ndarray], list[str] | None]:
    """Return the class numbers of each file, and the class names if any file holds names."""
    names = known.names if known is not None else ()
    labels = [read_labels(file, set(names)) for file in files]
    numbers: dict[int, np.ndarray] = {}
    class_names = None
    for group in group_by_label_kind(labels, names):
        locations = [(f"text file '{files[i].path}'", f" in line {line}") for i in group for line in files[i].lines]
        flat, group_names = encode_labels(
            [label for i in group for label in labels[i]], known, locations.__getitem__, note
        )
        class_names = class_names or group_names
        ends = np.cumsum([len(labels[i]) for i in group])
        numbers.update(zip(group, np.split(flat, ends[:-1]), strict=True))
    return [numbers[i] for i in range(len(files))], class_names


def _make(source: DataSource, request: ReadRequest) -> SplitReader:
    find_path(source)
    return TextReader(source, request.names, request.model, request.find_names(), request.note)


KIND = DataKind(DataSource, _make)
