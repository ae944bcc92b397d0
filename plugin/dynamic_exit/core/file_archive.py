"""Arrays and named files as bytes, to send them to other processes or keep them on disk."""

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping

import numpy as np

from .atomic_write import atomic_write

_MANIFEST = "manifest.json"


def array_to_bytes(array: np.ndarray) -> bytes:
    """Return an array of plain numbers as the content of an .npy file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def array_from_bytes(content: bytes) -> np.ndarray:
    """Return the array that `array_to_bytes` took."""
    array: np.ndarray = np.load(io.BytesIO(content), allow_pickle=False)
    return array


def pack_files(files: Mapping[str, bytes]) -> bytes:
    """Return named byte strings as one."""
    sizes = json.dumps({name: len(content) for name, content in files.items()}).encode()
    return b"".join([len(sizes).to_bytes(8, "little"), sizes, *files.values()])


def unpack_files(content: bytes) -> dict[str, bytes]:
    """Return the byte strings that `pack_files` took, by name."""
    start = 8 + int.from_bytes(content[:8], "little")
    files = {}
    for name, size in json.loads(content[8:start]).items():
        files[name], start = content[start : start + size], start + size
    return files


def write_archive(path: str | os.PathLike[str], key: str, files: Mapping[str, bytes]) -> None:
    """Write an uncompressed zip archive with a manifest of sha256 sums; `read_archive` notices one that is cut short.

    Args:
        path: Where it is written; its folder must exist.
        key: What the archive is of; `read_archive` asks for it.
        files: Content by name.

    Raises:
        OSError: It cannot be written.
    """
    with atomic_write(path, flush=False) as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr(_MANIFEST, json.dumps(_manifest(key, files)))
        for name, content in files.items():
            archive.writestr(name, content)


def read_archive(path: str | os.PathLike[str], key: str) -> dict[str, bytes] | None:
    """Return the files of an archive by name; None if it was cut short or changed, or is of another key."""
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = json.loads(archive.read(_MANIFEST))
            files = {name: archive.read(name) for name in archive.namelist() if name != _MANIFEST}
    except Exception:  # zipfile, zlib and json raise anything on damaged bytes
        return None
    return files if manifest == _manifest(key, files) else None


def _manifest(key: str, files: Mapping[str, bytes]) -> dict[str, object]:
    return {"key": key, "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}}
