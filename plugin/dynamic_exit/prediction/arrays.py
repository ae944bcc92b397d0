"""Arrays in NumPy's .npz files, read row by row: no array is ever in memory as a whole."""

import math
import os
import zipfile
import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..artifact.inputs import check_inputs
from ..data.npz_names import INPUTS, LABELS
from ..errors import DataError, first_line
from ..trust.archives import check_archive, read_header
from .rows import Prepared, Row, RowRequest, RowSource, file_stamp

WHAT = "an .npz file of inputs"
_SUFFIX = ".npy"
# bytes that are read at once
_BLOCK = 1 << 20


def takes(data: Path) -> bool:
    """Whether the data may be of this kind."""
    return data.is_file() and data.suffix == ".npz"


def open_rows(request: RowRequest) -> RowSource:
    """Open an .npz file; labels in it are not read.

    Raises:
        DataError: It cannot be read, or an input is missing or of another number of rows.
        InputError: The model takes other shapes or types.
    """
    return ArrayRows(request)


class ArrayRows:
    """Rows of one array, or of several by name; a `RowSource`."""

    def __init__(self, request: RowRequest):
        self._path, self.stamp = request.data, file_stamp(request.data)
        self.settings: list[Any] = []
        names = [spec["name"] for spec in request.manifest.inputs]
        try:
            check_archive(self._path)
            with zipfile.ZipFile(self._path) as archive:
                self._arrays = _find_arrays(archive, names, self._path)
                headers = {name: _read_header(archive, array) for name, array in self._arrays.items()}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
            raise DataError(
                f"data file '{self._path}' is no .npz file of plain numbers: {first_line(error)}; write it with "
                "numpy.savez"
            ) from error
        counts = {name: shape[0] if shape else 0 for name, (shape, _) in headers.items()}
        if len({*counts.values()}) > 1:
            listed = ", ".join(f"{count} of '{name}'" for name, count in counts.items())
            raise DataError(f"data file '{self._path}' has {listed}; give all inputs of every row")
        self._count = next(iter(counts.values()))
        # so that a model of other shapes is refused before anything is read or written
        empty = {name: np.empty((0, *shape[1:]), dtype) for name, (shape, dtype) in headers.items()}
        check_inputs(empty, names, request.manifest.inputs, request.manifest.max_tokens)

    def rows(self, start: int) -> Generator[Row, None, None]:
        """Yield the rows of all arrays, as `RowSource.rows`."""
        try:
            with zipfile.ZipFile(self._path) as archive:
                streams = [_stream(archive, array, start) for array in self._arrays.values()]
                for number, row in enumerate(zip(*streams, strict=True), start):
                    yield Row(number, row)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"data file '{self._path}' cannot be read: {first_line(error)}; write it anew") from error

    def count(self) -> int:
        """Return the length of the arrays."""
        return self._count

    def prepare(self, rows: Sequence[Row]) -> Prepared:
        """Stack rows, as `RowSource.prepare`."""
        return Prepared({name: np.stack([row.value[i] for row in rows]) for i, name in enumerate(self._arrays)})


def _find_arrays(archive: zipfile.ZipFile, names: Sequence[str], path: Path) -> Mapping[str, str]:
    """Return the array of each input; a single input may have any name if there is no other array."""
    found = [name.removesuffix(_SUFFIX) for name in archive.namelist() if name.endswith(_SUFFIX)]
    others = [name for name in found if name not in LABELS]
    if all(name in found for name in names):
        return {name: name for name in names}
    if len(names) == 1:
        only = next((name for name in INPUTS if name in found), others[0] if len(others) == 1 else None)
        if only is not None:
            return {names[0]: only}
    raise DataError(
        f"data file '{path}' has the arrays {', '.join(found) or 'none'}, and the model takes {', '.join(names)}; name "
        "them so"
    )


def _read_header(archive: zipfile.ZipFile, array: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with archive.open(array + _SUFFIX) as member:
        return read_header(member)


def _stream(archive: zipfile.ZipFile, array: str, start: int) -> Iterator[np.ndarray]:
    """Yield the rows of an array from one on."""
    with archive.open(array + _SUFFIX) as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(member)
        if is_fortran:  # rows lie scattered over the whole array, which is the one thing that must be in memory
            size = math.prod(shape) * dtype.itemsize
            yield from np.frombuffer(member.read(size), dtype).reshape(shape, order="F")[start:]
            return
        width = math.prod(shape[1:]) * dtype.itemsize
        member.seek(start * width, os.SEEK_CUR)
        at_once = max(1, _BLOCK // max(1, width))
        for place in range(start, shape[0], at_once):
            count = min(at_once, shape[0] - place)
            block = member.read(count * width)
            if len(block) < count * width:
                raise EOFError(f"array '{array}' is cut short")
            yield from np.frombuffer(block, dtype).reshape(count, *shape[1:])
