"""Folders of pictures, one folder a class."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import DataError, first_line, nearest
from ..class_names import Known, Note, order_names
from .images import Picture, rgb_pixels, upright

# how the names of folders begin that systems and tools put beside classes
_NO_CLASS = (".", "@")
_WHAT = "class folder"


class ImageFolderReader:
    """Reads pictures whose folders are their classes, which are the same in all splits.

    Args:
        path: Holds a folder for each split.
        names: The folders of all splits; one that several splits share stands there as often.
        known: Names of the classes that were told.
        note: Takes what was left out, turned or scaled.

    Attributes:
        class_names: In the order of the labels.

    Raises:
        DataError: A split has no classes, or one that neither another split nor a known name has; a picture cannot be
            read, or is of another size.
    """

    def __init__(self, path: Path, names: Sequence[str], known: Known | None, note: Note):
        self.path, self.note = path, note
        folders = {name: _folders(path / name, known) for name in dict.fromkeys(names)}
        found = {name: [each for each in there if _files(path / name / each)] for name, there in folders.items()}
        for name, classes in found.items():
            if not classes:
                raise DataError(
                    f"image folder '{path / name}' has no folders of classes; put the images of each class into one"
                )
        self._refuse_strangers(Counter(each for name in names for each in folders[name]), found, known)
        every = set().union(*found.values())
        self.class_names = order_names(every, known, _WHAT, note)
        self._say_what_is_missing(folders, found, known)
        self._turned = self._narrowed = 0
        self._samples = {name: self._read(name) for name in folders}
        self._say_what_was_done(sum(len(labels) for _, labels in self._samples.values()))

    def _refuse_strangers(self, counts: Mapping[str, int], found: Mapping[str, list[str]], known: Known | None) -> None:
        """Refuse a class that one split alone has: it may be misspelt. `data.classes` settles it."""
        for name, classes in found.items() if known is None or not known.recipe else ():
            for each in classes:
                if counts[each] == 1 and not (known and each in known.names):
                    hint = nearest(each, set(counts) - {each})
                    raise DataError(
                        f"{_WHAT} '{self.path / name / each}' is in no other split ({hint}); rename it, remove "
                        "it, or name all classes in `data.classes`"
                    )

    def _say_what_is_missing(
        self, folders: Mapping[str, list[str]], found: Mapping[str, list[str]], known: Known | None
    ) -> None:
        every = set().union(*found.values())
        hidden = {each.name for name in folders for each in (self.path / name).iterdir() if each.is_dir()}
        hidden -= set().union(*folders.values())
        empty = set().union(*folders.values()) - every - set(known.names if known else ())
        kinds = {f"which begin with {' or '.join(_NO_CLASS)}": hidden, "which are empty": empty}
        left = [f"{', '.join(sorted(names))}, {why}" for why, names in kinds.items() if names]
        if left:
            self.note(f"no classes are the folders {'; '.join(left)}")
        for name, classes in found.items():
            missing = [each for each in self.class_names if each in every - set(classes)]
            if missing:
                self.note(f"'{name}' holds no pictures of {', '.join(missing)}")

    def _say_what_was_done(self, count: int) -> None:
        if self._turned:
            self.note(f"{self._turned} of {count} pictures were turned upright, as their EXIF data tell")
        if self._narrowed:
            self.note(
                f"{self._narrowed} of {count} pictures have 16 bits and were scaled to 8; transformers' pipelines cut "
                "such files off at 255, so hand them pictures of 8 bits"
            )

    def __call__(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return pixels uint8 (N, 3, H, W) and labels int64 (N,) of one folder; they are handed over once."""
        return self._samples.pop(name)

    def _read(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        images, labels = [], []
        for number, each in enumerate(self.class_names):
            for file in _files(self.path / name / each):
                picture = read_picture(file)
                images.append(rgb_pixels(picture))
                if images[-1].shape != images[0].shape:
                    sizes = f"{images[-1].shape[1:]}, others {images[0].shape[1:]}"
                    raise DataError(f"image '{file}' is {sizes}; resize beforehand")
                labels.append(number)
                self._turned += picture.turned
                self._narrowed += picture.narrowed
        return np.stack(images), np.asarray(labels, np.int64)


def _folders(path: Path, known: Known | None) -> list[str]:
    """Name the folders that may be classes."""
    names = sorted(entry.name for entry in path.iterdir() if entry.is_dir()) if path.is_dir() else []
    return [name for name in names if not name.startswith(_NO_CLASS) or (known and name in known.names)]


def _files(folder: Path) -> list[Path]:
    """List what a class holds; hidden files alone do not make one."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return files if any(not file.name.startswith(".") for file in files) else []


def read_picture(file: Path) -> Picture:
    """Read a picture upright and in at most 8 bits.

    Raises:
        DataError: It cannot be read, or its pixels have no known range.
    """
    try:
        with Image.open(file) as image:
            return upright(image)
    except Exception as error:  # Pillow's readers raise what they please on a file that is something else
        raise DataError(f"image '{file}' cannot be read: {first_line(error)}") from error
