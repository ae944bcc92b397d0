"""Arrays that are larger than memory should be: files mapped into it, whose pages are given back after each batch."""

import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO

import numpy as np

from .memory_pages import release_later, release_pages

#: Bytes up to which an array is held in memory.
MAX_BYTES_IN_MEMORY = 64 * 2**20
# what is read before pages are given back: bytes in order, and single rows, of which each may bring in 2 MiB
_BLOCK_BYTES, _SINGLE_ROWS = 4 * 2**20, 8


def open_mapped(path: str | os.PathLike[str]) -> np.ndarray:
    """Map an .npy file into memory.

    Returns:
        The array. What is written to it never reaches the file, and may be lost; torch warns of arrays that cannot be
        written.
    """
    with open(path, "rb") as file:
        return _map(file)


def _map(file: IO[bytes]) -> np.ndarray:
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if 0 in shape:
        return np.empty(shape, dtype)
    # without a reservation, as the system would refuse to map a file that is larger than its memory
    flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)
    mapped = mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    release_later(mapped)
    return np.frombuffer(mapped, dtype, offset=file.tell()).reshape(shape)


def is_mapped(array: np.ndarray) -> bool:
    """Whether an array, or the one that it is a view of, is a mapped file."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(getattr(base, "obj", base), mmap.mmap)


def row_blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yield an array (N, ...) in blocks of rows, views of it; pages of mapped arrays are given back after each."""
    rows = max(1, _BLOCK_BYTES * len(array) // max(1, array.nbytes))
    for start in range(0, len(array), rows):
        yield array[start : start + rows]
        release_pages()


def value_range(array: np.ndarray) -> tuple[float, float]:
    """Return the least and the largest value of an array (N, ...) with at least one value."""
    ranges = [(block.min(), block.max()) for block in row_blocks(array)]
    return float(min(low for low, _ in ranges)), float(max(high for _, high in ranges))


def collect_blocks(blocks: Iterable[np.ndarray], rows: int) -> np.ndarray:
    """Concatenate blocks of rows, in memory or, if they are large, in a temporary file that is mapped.

    Args:
        blocks: At least one, each (n, ...), of one dtype.
        rows: Number of rows of all, or more.

    Returns:
        The array, with as many rows as came.
    """
    rest = iter(blocks)
    first = next(rest)
    shape = (rows, *first.shape[1:])
    if first.itemsize * int(np.prod(shape)) <= MAX_BYTES_IN_MEMORY:
        whole, end = np.empty(shape, first.dtype), 0
        for block in _chain(first, rest):
            whole[end : end + len(block)] = block
            end += len(block)
        return whole if end == rows else whole[:end]
    with tempfile.TemporaryFile(prefix="dynamic_exit_") as file:
        write_blocks(file, _chain(first, rest), rows)
        file.seek(0)
        return _map(file)


def _chain(first: np.ndarray, rest: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    yield first
    yield from rest


def write_blocks(file: IO[bytes], blocks: Iterable[np.ndarray], rows: int) -> None:
    """Write blocks of rows as an .npy file.

    Args:
        file: Empty, and able to seek.
        blocks: At least one, each (n, ...), of one dtype.
        rows: Number of rows of all, or more: the file then holds as many as were written.
    """
    written = 0
    for block in blocks:
        if not written:
            shape, dtype = block.shape[1:], block.dtype
            _write_header(file, (rows, *shape), dtype)
        file.write(np.ascontiguousarray(block).data)
        written += len(block)
    if written != rows:
        file.seek(0)
        _write_header(file, (written, *shape), dtype)  # as long as before: numpy pads for growing arrays
    file.flush()


def _write_header(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def take_rows(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return some rows of an array, in memory or, if they are large, in a temporary file that is mapped.

    Args:
        array: (N, ...).
        rows: Their indices.
    """
    if not len(rows) or array.nbytes <= MAX_BYTES_IN_MEMORY:
        return array[rows]

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, len(rows), _SINGLE_ROWS):
            yield array[rows[start : start + _SINGLE_ROWS]]
            release_pages()

    return collect_blocks(blocks(), len(rows))
