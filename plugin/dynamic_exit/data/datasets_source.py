"""Datasets of Hugging Face: on disk, as `save_to_disk` or parquet files, or by name."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, nearest
from ..images import ImageDecoder, ImageFormat
from ..recipe.data import DataKind
from ..sources.class_names import merge_class_lists
from ..sources.spelling import Note
from ..sources.text_tokens import Texts, tokenize_splits
from ..sources.tokenizer import load_tokenizer
from .arrow_columns import Kind, drop_missing, find_kind, list_images, read_arrays, read_labels, read_texts
from .arrow_files import LoadedTable, load_table, open_table
from .datasets_keys import DatasetsSource
from .python_samples import LABELS
from .reader import ReadRequest, Samples, SplitReader
from .split import UNNAMED

# where pandas keeps its row numbers in parquet files
_ROW_NUMBERS = "__index_level_0__"


class DatasetsReader:
    """Reads the tables of all splits.

    Args:
        source: The stanza.
        request: What else it needs.

    Attributes:
        class_names: In the order of the labels, if the label column lists them (`ClassLabel`); else None.
        image_format: The form of the images, if there are any.

    Raises:
        DataError: A split or a column is missing, or a row cannot be read.
    """

    image_format: ImageFormat | None = None

    def __init__(self, source: DatasetsSource, request: ReadRequest):
        self._source = source
        tables = {name: _open(source, name) for name in dict.fromkeys(request.names)}
        columns = {name: self._find_label(each, name) for name, each in tables.items()}
        inputs = {name: self._find_inputs(each, name, columns[name]) for name, each in tables.items()}
        if source.is_text and source.text_options.missing == "drop":
            for name, each in tables.items():
                tables[name] = self._drop_missing(each, name, [*inputs[name], columns[name]], request.note)
        labels = {name: read_labels(each.table[columns[name]], self._holder(name)) for name, each in tables.items()}
        self._groups = {name: self._read_groups(each.table) for name, each in tables.items()}
        lists = {name: _class_list(each.features.get(columns[name])) for name, each in tables.items()}
        labels, self.class_names = merge_class_lists(labels, lists, request.find_names, request.note)
        self._labels = labels
        self._decode: ImageDecoder | None = None
        self._inputs: dict[str, dict[str, np.ndarray]] = {}
        if source.is_text:
            texts = {name: self._read_texts(each, name, inputs[name]) for name, each in tables.items()}
            self._inputs = dict(tokenize_splits(texts, source, load_tokenizer(source, request.model)))
        elif all("image" in each.values() for each in inputs.values()):
            path = Path(source.path)
            files = {
                name: list_images(each.table[next(iter(inputs[name]))], path, name, each.folder)
                for name, each in tables.items()
            }
            self._decode = ImageDecoder(files, request.images, source.max_bad, request.note)
            self.image_format = self._decode.form
        else:
            self._inputs = {name: self._read(each, name, inputs[name]) for name, each in tables.items()}

    def __call__(self, name: str) -> Samples:
        """Return inputs and labels of a split; each split only once, to free memory."""
        if self._decode is None:
            return {**self._inputs.pop(name), **self._groups[name]}, self._labels[name]
        pixels, were_read = self._decode(name)
        groups = {key: np.asarray(values, dtype=object)[were_read] for key, values in self._groups[name].items()}
        return ({UNNAMED: pixels, **groups} if groups else pixels), self._labels[name][were_read]

    def _read_groups(self, table: Any) -> dict[str, list[Any]]:
        key = str(self._source.groups)
        return {key: table[key].to_pylist()} if key in table.column_names else {}

    def _holder(self, name: str) -> str:
        return f"split '{name}' of '{self._source.path}'"

    def _find_label(self, loaded: LoadedTable, name: str) -> str:
        names, label = loaded.table.column_names, self._source.label
        classes = [each for each in names if _class_list(loaded.features.get(each)) is not None]
        found = [label] if label else [each for each in LABELS if each in names] or classes
        if not found or found[0] not in names:
            hint = nearest(label, names) if label else "name that of the labels in `data.label`"
            raise DataError(f"{self._holder(name)} has no column '{label or 'label'}' (there: {_list(names)}); {hint}")
        return found[0]

    def _find_inputs(self, loaded: LoadedTable, name: str, label: str) -> Mapping[str, Kind]:
        """Return the columns of the inputs with what they hold."""
        kinds = {
            each.name: find_kind(each.type, loaded.features.get(each.name))
            for each in loaded.table.schema
            if each.name not in (label, _ROW_NUMBERS, self._source.groups)
        }
        for each in self._source.inputs or ():
            if each not in kinds:
                raise DataError(f"{self._holder(name)} has no column '{each}' of inputs; {nearest(each, kinds)}")
        return self._choose({each: kinds[each] for each in self._source.inputs or kinds}, self._holder(name))

    def _choose(self, kinds: Mapping[str, Kind], holder: str) -> Mapping[str, Kind]:
        """Return the columns that can be inputs together; of named ones, all must be."""
        chosen, is_text = self._source.inputs is not None, self._source.is_text
        groups: list[set[Kind]] = [{"image"}, {"array", "number"}] if chosen else [{"image"}, {"array"}]
        if not chosen and "text" not in kinds.values():  # beside texts, numbers are often only those of rows
            groups.append({"number"})
        together = [[each for each in kinds if kinds[each] in group] for group in ([{"text"}] if is_text else groups)]
        found = next(filter(None, together), [])
        if not found or (chosen and len(found) < len(kinds)):
            hint = "name others in `data.inputs`"
            if "text" in kinds.values() and not is_text:
                hint = "write `text: {}` in the stanza `data` for texts, or name columns of numbers in `data.inputs`"
            what = "columns of text" if is_text else "a column of images, or columns of numbers,"
            raise DataError(f"{holder} must have {what} as inputs; got {_list(kinds)}; {hint}")
        if kinds[found[0]] in ("image", "text") and len(found) > (2 if chosen and is_text else 1):
            raise DataError(f"{holder} has several columns of inputs, {_list(found)}; name one in `data.inputs`")
        return {each: kinds[each] for each in found}

    def _drop_missing(self, loaded: LoadedTable, name: str, columns: list[str], note: Note) -> LoadedTable:
        table, count = drop_missing(loaded.table, columns), loaded.table.num_rows
        if table.num_rows < count:
            left = f"{count - table.num_rows} of {count} rows"
            note(f"{left} of {self._holder(name)} hold no text or no label and are left out")
        return replace(loaded, table=table)

    def _read_texts(self, loaded: LoadedTable, name: str, inputs: Mapping[str, Kind]) -> Texts:
        holder = self._holder(name)
        columns = tuple(read_texts(loaded.table[each], each, holder) for each in inputs)
        return Texts(holder, columns, "row", range(loaded.table.num_rows))

    def _read(self, loaded: LoadedTable, name: str, inputs: Mapping[str, Kind]) -> dict[str, np.ndarray]:
        holder, (first, *others) = self._holder(name), inputs
        arrays = {each: read_arrays(loaded.table[each], each, holder) for each in inputs}
        if all(array.ndim == 1 for array in arrays.values()):  # a row of numbers is a sample
            return {UNNAMED: np.stack([*arrays.values()], axis=1)}
        return arrays if others or first.endswith("_ids") else {UNNAMED: arrays[first]}


def _open(source: DatasetsSource, split: str) -> LoadedTable:
    path = Path(source.path)
    if path.is_absolute():
        return open_table(path / (source.config or ""), split)
    return load_table(source.path, source.config, source.revision, split)


def _class_list(feature: object) -> list[str] | None:
    names = feature.get("names") if isinstance(feature, Mapping) and feature.get("_type") == "ClassLabel" else None
    return [str(name) for name in names] if isinstance(names, list) else None


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _make(source: DatasetsSource, request: ReadRequest) -> SplitReader:
    return DatasetsReader(source, request)


KIND = DataKind(DatasetsSource, _make)
