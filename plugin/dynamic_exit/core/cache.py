"""Finished work on disk, found again by a key that covers everything it depends on.

An entry is one file: an uncompressed zip archive of named byte strings with a manifest of their sha256 sums. It is
written whole or not at all, and what was cut short or changed since is noticed and made anew.
"""

import hashlib
import io
import json
import logging
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import distributed
from .atomic_write import written_whole

logger = logging.getLogger(__name__)

_MANIFEST = "manifest.json"


def pack(array: np.ndarray) -> bytes:
    """Return an array of plain numbers as the bytes of an .npy file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def unpack(content: bytes) -> np.ndarray:
    """Return the array that `pack` took."""
    return np.load(io.BytesIO(content), allow_pickle=False)


class Cache:
    """A folder of entries; of processes that work together the main one reads and writes it, and tells the others.

    Args:
        directory: The folder, made when it is first written to; None takes a temporary one, which goes with the object.
    """

    def __init__(self, directory: str | Path | None):
        self._use(directory)

    def _use(self, directory: str | Path | None) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="dynamic_exit_") if directory is None else None
        self.directory = Path(self._temporary.name if directory is None else directory)

    def __contains__(self, key: str) -> bool:
        return distributed.led(lambda: self._path(key).is_file())

    def get(self, key: str) -> dict[str, bytes] | None:
        """Return an entry's content by name; None where there is none that can be trusted."""
        return distributed.led(lambda: self._get(key), _pack_entry, _unpack_entry)

    def _get(self, key: str) -> dict[str, bytes] | None:
        path = self._path(key)
        if not path.is_file():
            return None
        try:
            return _read(path, key)
        except Exception:  # zipfile, zlib and json raise what they please on bytes that were cut or changed
            logger.info(f"cache entry '{path.name}' was cut short or changed; it is made anew")
            return None

    def put(self, key: str, files: Mapping[str, bytes]) -> None:
        """Write an entry, whole or not at all.

        Args:
            key: As `digest` makes it.
            files: Content by name.
        """
        if not distributed.main():
            return
        try:
            _write(self._path(key), key, files)
        except OSError as error:
            if self._temporary is not None:
                raise
            said = f"cache '{self.directory}' cannot be written: {error.strerror or error}"
            logger.warning(f"{said}; what is made now will not be found again")
            self._use(None)
            self.put(key, files)

    def files(self, key: str, make: Callable[[], dict[str, bytes]]) -> dict[str, bytes]:
        """Return the content that `make` returned when this key was first asked for."""

        def find() -> dict[str, bytes]:
            found = self.get(key)
            if found is None:
                found = make()
                self.put(key, found)
            return found

        return distributed.led(find, distributed.pack_files, distributed.unpack_files)

    def drop(self, key: str) -> None:
        """Remove an entry, if it is there."""
        self._path(key).unlink(missing_ok=True)

    def value(self, key: str) -> Any:
        """Return the value that `keep` took; None where there is none that can be trusted."""
        found = self.get(key)
        return None if found is None else json.loads(found["value.json"])

    def keep(self, key: str, value: Any) -> Any:
        """Write a value that JSON can hold as an entry, and return it."""
        self.put(key, {"value.json": json.dumps(value).encode()})
        return value

    def memo(self, key: str, make: Callable[[], Any]) -> Any:
        """Return what `make` returned when this key was first asked for: anything but None that JSON can hold."""

        def find() -> Any:
            found = self.value(key)
            return self.keep(key, make()) if found is None else found

        return distributed.led(find)

    def _path(self, key: str) -> Path:
        return self.directory / key[:2] / f"{key}.zip"


def _pack_entry(files: dict[str, bytes] | None) -> bytes:
    return b"" if files is None else distributed.pack_files(files)


def _unpack_entry(content: bytes) -> dict[str, bytes] | None:
    return distributed.unpack_files(content) if content else None


def _read(path: Path, key: str) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read(_MANIFEST))
        files = {name: archive.read(name) for name in archive.namelist() if name != _MANIFEST}
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    if manifest != {"key": key, "sha256": sums}:
        raise ValueError("the sums differ")
    return files


def _write(path: Path, key: str, files: Mapping[str, bytes]) -> None:
    manifest = {"key": key, "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}}
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr(_MANIFEST, json.dumps(manifest))
        for name, content in files.items():
            archive.writestr(name, content)


def open_cache(directory: str | None, enabled: bool) -> Cache:
    """Open the user's cache.

    Args:
        directory: The folder; None: ``$DYNAMIC_EXIT_CACHE``, else ``$XDG_CACHE_HOME/dynamic_exit``, else
            ``~/.cache/dynamic_exit``.
        enabled: Whether anything is kept beyond this run.

    Returns:
        The cache.
    """
    if not enabled:
        return Cache(None)
    if directory is None:
        shared = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        directory = os.environ.get("DYNAMIC_EXIT_CACHE") or Path(shared, "dynamic_exit")
    return Cache(directory)
