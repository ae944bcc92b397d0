"""Stable hashes of strings, bytes and arrays, used as cache keys."""

import hashlib
import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from .mapped_arrays import row_blocks


def digest(*parts: bytes | memoryview | str | Iterable[Any]) -> str:
    """Return the sha256 sum, in hexadecimal, of strings, bytes and nested lists of them.

    The length of each part counts, so ``digest("ab", "c")`` differs from ``digest("a", "bc")``.
    """
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            part = part.encode()
        elif not isinstance(part, bytes | memoryview):
            part = bytes.fromhex(digest(*part))
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return total.hexdigest()


def array_fingerprint(array: np.ndarray) -> str:
    """Return the hash of an array's dtype, shape and values."""
    total = hashlib.sha256(digest(str(array.dtype), str(array.shape)).encode())
    for block in row_blocks(np.atleast_1d(array)):
        total.update(np.ascontiguousarray(block).data.cast("B"))
    return total.hexdigest()


def file_fingerprint(path: str | os.PathLike[str]) -> str:
    """Return the sha256 sum of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
