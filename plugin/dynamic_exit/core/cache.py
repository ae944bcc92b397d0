"""Finished work on disk, under a key that covers everything it depends on.

An entry is one archive of named byte strings (`file_archive.write_archive`), written atomically; an entry that was cut
short or changed is noticed and made again.
"""

import contextlib
import functools
import json
import logging
import os
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import distributed
from .atomic_write import atomic_write
from .file_archive import array_from_bytes, array_to_bytes, pack_files, read_archive, unpack_files, write_archive
from .mapped_arrays import open_mapped, write_blocks

logger = logging.getLogger(__name__)
_warn_once = functools.cache(logger.warning)
# seconds after its last use that an array, which may take gigabytes, is removed when another is written, and that a
# hidden file is, which a killed process was writing
_ARRAY_LIFE, _HIDDEN_LIFE = 30 * 24 * 3600, 24 * 3600
_PIECE_BYTES = 4 * 2**20


class _MakeError(Exception):
    """Carries what `make` of `Cache.array` raised, which is no failure of the cache."""


class Cache:
    """A folder of entries; with several processes, the main one reads and writes it and sends the others what it read.

    Args:
        directory: The folder, made when it is first written to; None takes a temporary one, removed with the object.
    """

    def __init__(self, directory: str | Path | None):
        self._use(directory)

    def _use(self, directory: str | Path | None) -> None:
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if directory is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="dynamic_exit_")
            directory = self._temporary.name
        self.directory = Path(directory)

    def __contains__(self, key: str) -> bool:
        return distributed.run_on_main(lambda: self._is_there(self._path(key)))

    def get(self, key: str) -> dict[str, bytes] | None:
        """Return an entry's content by name; None if there is no intact entry."""
        return distributed.run_on_main(lambda: self._get(key), _pack_entry, _unpack_entry)

    def _is_there(self, path: Path) -> bool:
        """Whether an entry's file exists; if the folder cannot be read, use a temporary one from now on."""
        try:
            if not path.is_file():
                return False
            path.open("rb").close()
        except OSError as error:
            self._use_temporary(error, "read")
            return False
        return True

    def _get(self, key: str) -> dict[str, bytes] | None:
        path = self._path(key)
        if not self._is_there(path):
            return None
        files = read_archive(path, key)
        if files is None:
            logger.info(f"cache entry '{path.name}' was cut short or changed; it is made anew")
        return files

    def put(self, key: str, files: Mapping[str, bytes]) -> None:
        """Write an entry atomically; if the folder cannot be written, use a temporary one from now on.

        Args:
            key: From `digest`.
            files: Content by name.
        """
        if not distributed.is_main_process():
            return
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_archive(path, key, files)
        except OSError as error:
            self._use_temporary(error)
            self.put(key, files)

    def _use_temporary(self, error: OSError, what: str = "written") -> None:
        if self._temporary is not None:
            raise error
        reason = error.strerror or error
        logger.warning(f"cache '{self.directory}' cannot be {what}: {reason}; what is made now will not be found again")
        self._use(None)

    def files(self, key: str, make: Callable[[], dict[str, bytes]]) -> dict[str, bytes]:
        """Return the content under a key, which `make` returns if there is none yet."""

        def find() -> dict[str, bytes]:
            found = self.get(key)
            if found is None:
                found = make()
                self.put(key, found)
            return found

        return distributed.run_on_main(find, pack_files, unpack_files)

    def drop(self, key: str) -> None:
        """Remove an entry if it exists."""
        try:
            self._path(key).unlink(missing_ok=True)
        except OSError as error:
            self._use_temporary(error)

    def value(self, key: str) -> Any:
        """Return the value that `keep` wrote; None if there is no intact entry."""
        found = self.get(key)
        return None if found is None else json.loads(found["value.json"])

    def keep(self, key: str, value: Any) -> Any:
        """Write a JSON value as an entry, and return it."""
        self.put(key, {"value.json": json.dumps(value).encode()})
        return value

    def memo(self, key: str, make: Callable[[], Any]) -> Any:
        """Return the JSON value under a key, which `make` returns (never None) if there is none yet."""

        def find() -> Any:
            found = self.value(key)
            return self.keep(key, make()) if found is None else found

        return distributed.run_on_main(find)

    def array(self, key: str, rows: int, make: Callable[[], Iterable[np.ndarray]]) -> np.ndarray:
        """Return the array (N, ...) under a key, mapped into memory: it need not fit there.

        Args:
            key: From `digest`.
            rows: Its length N, or more.
            make: Yields its rows in blocks of one dtype, at least one, if there is no array yet.
        """
        return distributed.run_on_main(lambda: self._array(key, rows, make), array_to_bytes, array_from_bytes)

    def _array(self, key: str, rows: int, make: Callable[[], Iterable[np.ndarray]]) -> np.ndarray:
        path = self._path(key).with_suffix(".npy")
        try:
            if self._is_there(path) and (known := self.value(key)) is not None:
                if known == _checksums(path):
                    with contextlib.suppress(OSError):  # the folder may be read only
                        os.utime(self._path(key))
                    return open_mapped(path)
                logger.info(f"cache entry '{path.name}' was cut short or changed; it is made anew")
            path = self._path(key).with_suffix(path.suffix)  # perhaps in a temporary folder by now
            path.parent.mkdir(parents=True, exist_ok=True)
            self._remove_old_arrays()
            with atomic_write(path, flush=False) as file:
                write_blocks(file, _carry_errors(make), rows)
        except OSError as error:
            self._use_temporary(error)
            return self._array(key, rows, make)
        except _MakeError as failed:
            assert failed.__cause__ is not None
            raise failed.__cause__ from failed.__cause__.__cause__
        self.keep(key, _checksums(path))
        return open_mapped(path)

    def _remove_old_arrays(self) -> None:
        """Remove arrays that were not used for long, which who has one open keeps, and what was cut short."""
        oldest, hidden = time.time() - _ARRAY_LIFE, time.time() - _HIDDEN_LIFE
        for path in self.directory.glob("??/.*"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < hidden:
                    path.unlink()
        for path in self.directory.glob("??/[!.]*.npy"):
            entry = path.with_suffix(".zip")
            with contextlib.suppress(OSError):  # another process may have removed it, another user may own it
                if max(each.stat().st_mtime for each in (path, entry) if each.is_file()) < oldest:
                    path.unlink()
                    entry.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.directory / key[:2] / f"{key}.zip"


def _checksums(path: Path) -> list[int]:
    """Return the CRC-32 of each piece of a file, which takes a fraction of the time of a hash that nobody can forge."""
    piece, sums = memoryview(bytearray(_PIECE_BYTES)), []
    with path.open("rb") as file:
        while size := file.readinto(piece):
            sums.append(zlib.crc32(piece[:size]))
    return sums


def _carry_errors(make: Callable[[], Iterable[np.ndarray]]) -> Iterator[np.ndarray]:
    try:
        yield from make()
    except OSError as error:
        raise _MakeError from error


def _pack_entry(files: dict[str, bytes] | None) -> bytes:
    return b"" if files is None else pack_files(files)


def _unpack_entry(content: bytes) -> dict[str, bytes] | None:
    return unpack_files(content) if content else None


def open_cache(directory: str | None, enabled: bool) -> Cache:
    """Open the user's cache.

    Args:
        directory: The folder; None takes ``$DYNAMIC_EXIT_CACHE``, else ``$XDG_CACHE_HOME/dynamic_exit``, else
            ``~/.cache/dynamic_exit``.
        enabled: Whether entries outlive this run.

    Returns:
        The cache.
    """
    if not enabled:
        return Cache(None)
    place = directory or os.environ.get("DYNAMIC_EXIT_CACHE") or _default_directory()
    if place is None:
        _warn_once("there is no home directory for the cache, set DYNAMIC_EXIT_CACHE; what is made now is not kept")
    return Cache(place)


def _default_directory() -> Path | None:
    """Return the folder of the cache in the user's home; None if there is no home."""
    caches = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(caches or Path.home() / ".cache", "dynamic_exit")
    except RuntimeError:  # HOME is not set, and the system does not know this user
        return None
