"""Zip archives of unknown origin, such as ``.npz``: nothing is unpacked that is far larger than what is stored."""

import math
import os
import zipfile
from typing import IO, Any

import numpy as np

# how many times its stored size a member may have, unless it is small; arrays of probabilities compress tenfold at most
_EXPANSION, _SMALL = 200, 64_000_000


def check_archive(path: str | os.PathLike[str]) -> None:
    """Check what a zip archive says of its members, before any is unpacked.

    Raises:
        OSError: It cannot be read.
        ValueError: A member would expand excessively, or an array holds objects or another number of bytes than its
            header says.
        zipfile.BadZipFile: It is no zip archive.
    """
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.file_size > max(_SMALL, _EXPANSION * info.compress_size):
                raise ValueError(f"'{info.filename}' would expand to {info.file_size / 1e9:,.1f} GB")
            if info.filename.endswith(".npy"):
                with archive.open(info) as member:
                    _check_array(member, info)


def _check_array(member: IO[bytes], info: zipfile.ZipInfo) -> None:
    shape, dtype = read_header(member)
    if dtype.hasobject:
        raise ValueError(f"'{info.filename}' holds pickled objects")
    needed, there = math.prod(shape) * dtype.itemsize, info.file_size - member.tell()
    if needed != there:
        raise ValueError(f"'{info.filename}' says that it has {needed:,} bytes of the shape {shape}, and has {there:,}")


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and dtype that an .npy file says it has; nothing is allocated.

    Raises:
        ValueError: It is no .npy file, or has a negative side.
    """
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"it is an .npy file of version {version}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if any(side < 0 for side in shape):
        raise ValueError(f"it says that it has the shape {shape}")
    return shape, dtype
