"""Pictures in a folder, nested or not, through the folder's own image processor."""

import logging
import os
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..artifact.folder import PROCESSOR_FILE
from ..artifact.manifest import IMAGES
from ..artifact.preparation import load_image_preparation
from ..core.batching import map_in_threads
from ..core.hashing import digest
from ..errors import DataError, first_line
from ..images.ignored import IGNORED_PREFIXES
from .rows import Prepared, Row, RowRequest, RowSource, check_task, missing_package

logger = logging.getLogger(__name__)

WHAT = "a folder of pictures"


def takes(data: Path) -> bool:
    """Whether the data may be of this kind."""
    return data.is_dir()


def open_rows(request: RowRequest) -> RowSource:
    """List the pictures of a folder and of all folders in it.

    Raises:
        DataError: There are none, or the model takes none.
    """
    return PictureRows(request)


class PictureRows:
    """Pictures, in the order of their paths; a `RowSource`."""

    def __init__(self, request: RowRequest):
        check_task(request, IMAGES, WHAT)
        inputs = request.manifest.inputs
        if len(inputs) != 1 or not (request.folder / PROCESSOR_FILE).is_file():
            raise DataError(
                f"the model in '{request.folder}' has no image processor, as it takes no plain pictures; give its "
                "inputs as an .npz file"
            )
        self.settings: list[Any] = []
        self._name, self._folder = inputs[0]["name"], request.data
        self._paths, self.stamp = self._list()
        try:
            self._to_pixels = load_image_preparation(request.folder)
        except ModuleNotFoundError as error:
            raise missing_package(error.name, "pictures") from error

    def _list(self) -> tuple[list[str], str]:
        """Return the paths of all pictures, relative to the folder, and what changes with them."""
        from ..images import is_image_name

        paths: list[str] = []
        stamps: list[str] = []
        others: list[str] = []
        for entry in _walk(self._folder):
            if not is_image_name(entry.name):
                others.append(entry.path)
                continue
            paths.append(os.path.relpath(entry.path, self._folder))
            stat = entry.stat() if entry.is_file() else None  # a link that leads nowhere is a broken picture
            stamps.append(f"{_key(paths[-1])} {stat.st_size} {stat.st_mtime_ns}" if stat else _key(paths[-1]))
        if not paths:
            raise DataError(f"folder '{self._folder}' holds no pictures; check the path")
        if len(others) == 1:
            logger.info(f"note: left out is '{others[0]}', which is no picture")
        elif others:
            logger.info(f"note: {len(others)} files that are no pictures are left out, such as '{others[0]}'")
        return paths, digest(stamps)

    def rows(self, start: int) -> Generator[Row, None, None]:
        """Yield the pictures' paths, as `RowSource.rows`."""
        yield from (Row(_key(path), path) for path in self._paths[start:])

    def count(self) -> int:
        """Return how many pictures there are."""
        return len(self._paths)

    def prepare(self, rows: Sequence[Row]) -> Prepared:
        """Decode pictures, as `RowSource.prepare`."""
        from ..core.distributed import workers

        faults: dict[int, str] = {}
        pixels: list[np.ndarray] = []
        for place, found in enumerate(map_in_threads(self._read, [row.value for row in rows], workers())):
            if isinstance(found, str):
                faults[place] = found
            else:
                pixels.append(found)
        return Prepared({self._name: np.concatenate(pixels)} if pixels else {}, faults)

    def _read(self, path: str) -> np.ndarray | str:
        """Return the pixels of a picture (1, C, H, W), or why there are none."""
        from ..images import read_image

        place = self._folder / path
        try:
            return self._to_pixels(read_image(place).image)
        except DataError as error:
            return str(error)
        except Exception as error:  # of a processor that somebody else made, on sizes it does not take
            return f"image '{place}' cannot be prepared: {first_line(error)}"


def _walk(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    """Yield the files of a folder, and of all folders in it, in the order of their names."""
    with os.scandir(folder) as found:
        entries = sorted((each for each in found if not each.name.startswith(".")), key=lambda each: each.name)
    for entry in entries:
        if entry.is_dir():
            # a link to a folder that it lies in would never end; what is there is listed already
            loops = entry.is_symlink() and Path(folder).resolve().is_relative_to(Path(entry.path).resolve())
            if not (loops or entry.name.startswith(IGNORED_PREFIXES)):
                yield from _walk(entry.path)
        elif entry.is_file() or not os.path.exists(entry.path):  # a pipe would be waited for
            yield entry


def _key(path: str) -> str:
    """Return a path as text in UTF-8, with slashes; bytes that are none are written as ``\\udc..``."""
    return Path(path).as_posix().encode(errors="backslashreplace").decode()
