"""Read the arrays of a records file, memory-mapped if they are stored uncompressed."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from ..errors import RecordsError
from ..trust.archives import check_archive

#: The name in files of `Records.requires`.
REQUIRES = "needs"
#: The arrays that may be absent.
OPTIONAL = (REQUIRES, "groups")


def read_arrays(path: Path, names: Sequence[str], mmap: bool) -> dict[str, np.ndarray]:
    """Read a records file.

    Args:
        path: The file.
        names: Names of its arrays; `OPTIONAL` ones may be absent.
        mmap: Memory-map the large arrays instead of loading them.

    Returns:
        The arrays by name, unchecked.

    Raises:
        RecordsError: The file is missing, is no archive of arrays, or lacks one.
    """
    if not path.is_file():
        raise RecordsError(f"there is no records file '{path}'; check the path")
    try:
        check_archive(path)
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            wanted = [name for name in names if name not in OPTIONAL or name in members]
            missing = [name for name in wanted if name not in members]
            if missing:
                raise RecordsError(f"'{path}' lacks the array '{missing[0]}'; a records file holds {', '.join(wanted)}")
            return {name: _read_array(path, archive, members[name], mmap) for name in wanted}
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, OSError, ValueError, EOFError, SyntaxError) as error:
        raise RecordsError(
            f"'{path}' is not a records file ({error}); write it with Records.write or numpy.savez"
        ) from error


def _read_array(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, mmap: bool) -> np.ndarray:
    if not mmap or info.compress_type != zipfile.ZIP_STORED:
        with archive.open(info) as member:
            return np.lib.format.read_array(member, allow_pickle=False)
    with open(path, "rb") as file:
        # the local header repeats name and extra field, whose lengths stand at its bytes 26..30
        file.seek(info.header_offset + 26)
        name_length, extra_length = np.frombuffer(file.read(4), dtype="<u2")
        file.seek(info.header_offset + 30 + int(name_length) + int(extra_length))
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        if dtype.hasobject:
            raise ValueError(f"'{info.filename}' holds pickled objects")
        if not shape or 0 in shape or dtype.kind == "U":
            with archive.open(info) as member:
                return np.lib.format.read_array(member, allow_pickle=False)
        order: Literal["F", "C"] = "F" if fortran else "C"
        return np.memmap(path, dtype=dtype, mode="r", offset=file.tell(), shape=shape, order=order)
