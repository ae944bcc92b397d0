"""Decoding of image files into arrays: all of one size, in parallel, and only once where they are many."""

import itertools
import logging
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, TypeVar

import numpy as np
import PIL

from ..core import distributed, mapped_arrays
from ..core.batching import map_in_threads
from ..core.cache import Cache
from ..core.hashing import digest
from ..errors import DataError
from .files import ImageFile, file_stamps, read_image, read_size
from .format import ImageFormat
from .pixels import to_pixels

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

# files that a thread opens, and images that it decodes, at a time: handing each over alone costs as much as the work
_OPENED, _DECODED = 64, 8

#: Receives a note for the user, one sentence.
Note = Callable[[str], None]
#: From the height and width that all images have, None if they differ, to the form in which the model takes them.
FindFormat = Callable[[tuple[int, int] | None], ImageFormat]


@dataclass(frozen=True)
class ImageReading:
    """How images are read.

    Attributes:
        find_format: Finds the form in which the model takes them, on demand.
        cache: Keeps what is decoded of many images; None: nothing is kept.
    """

    find_format: FindFormat = lambda size: ImageFormat()
    cache: Cache | None = None


class _Decoded(TypedDict):
    """What was noticed in a list of images: how many were rotated and rescaled, and why some cannot be read."""

    rotated: int
    rescaled: int
    bad: dict[str, str]


class ImageDecoder:
    """Decodes the images of all splits into one form.

    Args:
        files: Of each split.
        reading: How.
        max_bad: Images that may be left out since they cannot be read.
        note: Receives notes on images that are resized, rotated, rescaled or left out.

    Attributes:
        form: The form.

    Raises:
        DataError: Too many images cannot be read, or they are of various sizes and the model states none.
    """

    def __init__(self, files: Mapping[str, Sequence[ImageFile]], reading: ImageReading, max_bad: int, note: Note):
        self.files, self.reading, self.max_bad, self.note = files, reading, max_bad, note
        self._bad: dict[str, str] = {}
        self._rotated = self._rescaled = 0
        every = [file for each in files.values() for file in each]
        self._sizes = self._find_sizes(every)
        size = self._sizes[0] if len(self._sizes) == 1 else None
        self.form = reading.find_format(size)
        if self.form.channels == 1:
            note("images are read in grayscale, as the model takes one channel")
        if size is None and self.form.resizing is None:
            self._refuse_sizes(every)
        self._shape = (self.form.channels, *(self.form.resizing.size if self.form.resizing else self._sizes[0]))
        self._left = len(files)

    def _find_sizes(self, files: Sequence[ImageFile]) -> list[tuple[int, int]]:
        """Return the heights and widths that occur, of upright images."""
        sizes = self._read_sizes(files, upright=False)
        height, width = sizes[0]
        # reading the orientation takes long: it matters only where it decides whether all sizes are equal
        turned = height != width and {*sizes} <= {(height, width), (width, height)}
        return self._read_sizes(files, upright=True) if turned else sizes

    def _read_sizes(self, files: Sequence[ImageFile], upright: bool) -> list[tuple[int, int]]:
        def size_of(file: ImageFile) -> tuple[int, int] | DataError:
            try:
                return read_size(file, upright)
            except DataError as error:
                return error

        sizes: dict[tuple[int, int], None] = {}
        found_sizes = itertools.chain.from_iterable(_map_parts(lambda part: [*map(size_of, part)], files, _OPENED))
        for file, found in zip(files, found_sizes, strict=True):
            if isinstance(found, DataError):
                self._leave_out(str(file), str(found))
            else:
                sizes[found] = None
        if not sizes:
            raise DataError(f"none of {len(files)} images can be read, such as '{files[0]}'; check the files")
        return [*sizes]

    def _refuse_sizes(self, files: Sequence[ImageFile]) -> None:
        first = self._sizes[0]
        odd = next(file for file in files if str(file) not in self._bad and read_size(file, upright=True) != first)
        raise DataError(
            f"image '{odd}' is {read_size(odd, upright=True)}, others {first}; resize beforehand, or set `size` in the "
            "model's `preprocessing`"
        )

    def _leave_out(self, name: str, reason: str) -> None:
        self._bad[name] = reason
        if len(self._bad) > self.max_bad:
            more = f"it is one of more than `max_bad: {self.max_bad}`"
            raise DataError(f"{reason}; {more if self.max_bad else 'a recipe may leave some out by `data.max_bad`'}")

    def __call__(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Decode the images of a split, each split once.

        Returns:
            Pixels uint8 (N, C, H, W), and bool (M,): which of its M files were read.
        """
        files = self.files[name]
        size = len(files) * int(np.prod(self._shape))
        decoded: _Decoded = {"rotated": 0, "rescaled": 0, "bad": {}}
        if size <= mapped_arrays.MAX_BYTES_IN_MEMORY:
            pixels = mapped_arrays.collect_blocks(self._decode(files, decoded), len(files))
        else:
            pixels, decoded = self._decode_once(name, files, decoded)
        self._rotated += decoded["rotated"]
        self._rescaled += decoded["rescaled"]
        for each, reason in decoded["bad"].items():
            self._leave_out(each, reason)
        self._left -= 1
        if not self._left:
            self._note_all()
        return pixels, np.asarray([str(file) not in decoded["bad"] for file in files])

    def _decode_once(self, name: str, files: Sequence[ImageFile], decoded: _Decoded) -> tuple[np.ndarray, _Decoded]:
        """Decode many images into a file, or find it in the cache."""
        cache = self.reading.cache or Cache(None)
        key = digest("images", _made_by(), file_stamps(files), str(self.form))
        notes_key = digest("noticed", key)
        noticed: _Decoded | None = cache.value(notes_key)
        if noticed is None:
            cache.drop(key)  # whose notes are lost
            which = f" of '{name}'" if name else ""
            logger.info(f"images{which}: {len(files)} are decoded once, into the cache")
        pixels = cache.array(key, len(files), lambda: self._decode(files, decoded))
        if noticed is not None and not decoded["bad"]:
            decoded = noticed
        cache.keep(notes_key, dict(decoded))
        return pixels, decoded

    def _decode(self, files: Sequence[ImageFile], decoded: _Decoded) -> Iterator[np.ndarray]:
        """Yield the pixels of images in blocks; those that cannot be read are missing."""
        for pixels, noticed in _map_parts(self._decode_part, files, _DECODED):
            decoded["rotated"] += noticed["rotated"]
            decoded["rescaled"] += noticed["rescaled"]
            decoded["bad"].update(noticed["bad"])
            for name, reason in noticed["bad"].items():
                self._leave_out(name, reason)
            if len(pixels):
                yield pixels
        if len(decoded["bad"]) == len(files):
            raise DataError(f"none of {len(files)} images can be read, such as '{files[0]}'; check the files")

    def _decode_part(self, files: Sequence[ImageFile]) -> tuple[np.ndarray, _Decoded]:
        """Return the pixels (N, C, H, W) of some images, without those that cannot be read, and what was noticed."""
        pixels = np.empty((len(files), *self._shape), np.uint8)
        noticed: _Decoded = {"rotated": 0, "rescaled": 0, "bad": {}}
        count = 0
        for file in files:
            try:
                image = read_image(file)
            except DataError as error:
                noticed["bad"][str(file)] = str(error)
                continue
            pixels[count] = to_pixels(image, self.form)
            noticed["rotated"] += image.rotated
            noticed["rescaled"] += image.rescaled
            count += 1
        return pixels[:count], noticed

    def _note_all(self) -> None:
        count = sum(len(files) for files in self.files.values())
        if self.form.resizing is not None:
            first, *others = self._sizes
            sizes = f"{len(self._sizes)} sizes, such as {first} and {others[-1]}" if others else f"the size {first}"
            self.note(f"images have {sizes}: {self.form.resizing}")
        if self._bad:
            self.note(f"{len(self._bad)} of {count} images were left out: {next(iter(self._bad.values()))}")
        if self._rotated:
            self.note(f"{self._rotated} of {count} images were turned upright, as their EXIF data tell")
        if self._rescaled:
            self.note(
                f"{self._rescaled} of {count} images have 16 bits and were scaled to 8; transformers' pipelines clip "
                "such files at 255, so pass them images of 8 bits"
            )


def _map_parts(
    function: Callable[[Sequence[ImageFile]], Result], files: Sequence[ImageFile], at_a_time: int
) -> Iterator[Result]:
    """Call a function on some files at a time, in each of several threads; results come in order."""
    parts = (files[start : start + at_a_time] for start in range(0, len(files), at_a_time))
    return map_in_threads(function, parts, distributed.workers())


def _made_by() -> str:
    """Return the fingerprint of what decodes images: code of ours, libraries and the type of the processor."""
    code = [Path(__file__).with_name(name).read_bytes() for name in ("pixels.py", "format.py")]
    return digest(code, PIL.__version__, np.__version__, sys.platform, platform.machine())
