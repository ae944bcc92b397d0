"""Columns of a table as inputs and labels: images, texts, and arrays of numbers."""

import importlib
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import DataError
from ..images import ImageFile
from .arrays import to_array

Kind = Literal["image", "text", "array", "number", "other"]


def find_kind(kind: Any, feature: Mapping[str, Any] | None = None) -> Kind:
    """Return what a column holds.

    Args:
        kind: Its `pyarrow.DataType`.
        feature: What Hugging Face says of it, if anything.
    """
    types = importlib.import_module("pyarrow").types
    if isinstance(feature, Mapping) and feature.get("_type") == "Image":
        return "image"
    if types.is_struct(kind):
        return "image" if "bytes" in {kind.field(i).name for i in range(kind.num_fields)} else "other"
    if types.is_binary(kind) or types.is_large_binary(kind):
        return "image"
    if types.is_dictionary(kind):
        return find_kind(kind.value_type)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind):
        return "number"
    kind = getattr(kind, "storage_type", kind)
    if _is_list(kind):
        return "array" if find_kind(kind.value_type) in ("array", "number") else "other"
    return "other"


def drop_missing(table: Any, names: Iterable[str]) -> Any:
    """Return the rows of a table in which no named column is null, or an empty text."""
    arrow, compute = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.compute")
    for name in names:
        column, present = table[name], compute.is_valid(table[name])
        if find_kind(column.type) == "text":
            words = compute.utf8_trim_whitespace(compute.cast(column, arrow.large_string()))
            present = compute.greater(compute.utf8_length(words), 0)
        table = table.filter(present)
    return table


def read_labels(column: Any, holder: str) -> np.ndarray:
    """Return labels (N,) as numbers or names.

    Raises:
        DataError: A label is null, or a list.
    """
    _refuse_null(column, holder, "no label")
    if find_kind(column.type) not in ("number", "text"):
        several = "lists as labels: multi-label classification is not supported"
        got = several if _is_list(column.type) else f"labels of type {column.type}"
        raise DataError(f"{holder} has {got}; give each row the number or the name of a class")
    chunks = [_decode(chunk).to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return np.concatenate(chunks) if chunks else np.zeros(0, np.int64)


def read_texts(column: Any, name: str, holder: str) -> list[str]:
    """Return texts.

    Raises:
        DataError: One is null.
    """
    _refuse_null(column, holder, f"null as '{name}'")
    return [text for chunk in column.chunks for text in _decode(chunk).to_pylist()]


def read_arrays(column: Any, name: str, holder: str) -> np.ndarray:
    """Return numbers (N, ...).

    Raises:
        DataError: One is null, or rows differ in shape.
    """
    _refuse_null(column, holder, f"null as '{name}'")
    what = f"column '{name}' of {holder}"
    chunks = [_to_numpy(chunk, what) for chunk in column.chunks if len(chunk)]
    if len({chunk.shape[1:] for chunk in chunks}) > 1:
        return to_array([row for chunk in chunks for row in chunk], what)  # which refuses it
    return np.concatenate(chunks) if chunks else np.zeros((0, 1), np.float32)


@dataclass(frozen=True)
class RowImage(ImageFile):
    """An image in a row of a table.

    Attributes:
        column: Bytes of image files, alone or in a struct of ``bytes`` and ``path``.
        row: The row.
        folder: What paths are relative to.
    """

    column: Any = None
    row: int = 0
    folder: Path = Path()

    def read_part(self) -> bytes:
        """Return the bytes of the file; a row that is null raises ValueError."""
        value = self.column[self.row].as_py()
        data, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
        if data is None and not path:
            raise ValueError("its row is null")
        return (self.folder / str(path)).read_bytes() if data is None else bytes(data)


def list_images(column: Any, path: Path, split: str, folder: Path) -> list[RowImage]:
    """List the images of a column.

    Args:
        column: As for `RowImage`.
        path: What holds the table, for messages.
        split: Of the table, for messages.
        folder: What paths of images are relative to.
    """
    images: list[RowImage] = []
    for chunk in column.chunks:
        for row in range(len(chunk)):
            member = f"{split}, row {len(images)}"
            image = RowImage(path, member, length=0, column=chunk, row=row, folder=folder)
            images.append(replace(image, start=_checksum(image)))
    return images


def _checksum(image: RowImage) -> int:
    """Return a number that changes with the file: tables say of no row when it was written."""
    try:
        return zlib.crc32(image.read_part())
    except (OSError, ValueError):
        return 0  # it is told where the image is decoded


def _refuse_null(column: Any, holder: str, said: str) -> None:
    """Refuse a column with a row that is null, which holds what `said` says."""
    nulls = np.concatenate([chunk.is_null().to_numpy(zero_copy_only=False) for chunk in column.chunks] or [[]])
    if nulls.any():
        raise DataError(f"{holder} has {said} in row {int(np.flatnonzero(nulls)[0])}; leave the row out")


def _decode(chunk: Any) -> Any:
    return chunk.dictionary_decode() if hasattr(chunk, "dictionary_decode") else chunk


def _is_list(kind: Any) -> bool:
    types = importlib.import_module("pyarrow").types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _to_numpy(chunk: Any, what: str) -> np.ndarray:
    compute = importlib.import_module("pyarrow.compute")
    shape = [len(chunk)]
    while True:
        chunk = getattr(chunk, "storage", chunk)
        if not _is_list(chunk.type):
            return np.asarray(chunk.to_numpy(zero_copy_only=False)).reshape(shape)
        lengths = compute.list_value_length(chunk).to_numpy(zero_copy_only=False)
        odd = np.flatnonzero(lengths != lengths[0])
        if len(odd):
            row = int(odd[0]) // int(np.prod(shape[1:]))
            raise DataError(
                f"{what} holds samples of different lengths, {int(lengths[0])} and, in row {row}, "
                f"{int(lengths[odd[0]])}; give all one length"
            )
        shape.append(int(lengths[0]))
        chunk = chunk.flatten()
