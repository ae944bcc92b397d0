"""Images in folders, one folder per class."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..core.images import DecodedImage, decode_image, to_rgb_array
from ..errors import DataError, first_line, nearest
from ..recipe.data import DataKind, DataSource
from .class_names import ClassNames, Note, sort_class_names
from .reader import ReadRequest, SplitReader, find_path

# prefixes of folders that operating systems and tools create
_IGNORED_PREFIXES = (".", "@")
_WHAT = "class folder"


class ImageFolderReader:
    """Reads images whose folders are their classes; all splits share the classes.

    Args:
        path: Holds a folder per split.
        names: The folder of each split, repeated if several splits share it.
        known: The class names, if known.
        note: Receives notes on folders that are skipped and images that are rotated or rescaled.

    Attributes:
        class_names: In the order of the labels.

    Raises:
        DataError: A split has no classes, or one that neither another split nor a known name has; an image cannot be
            read or is of another size.
    """

    def __init__(self, path: Path, names: Sequence[str], known: ClassNames | None, note: Note):
        self.path, self.note = path, note
        folders = {name: _folders(path / name, known) for name in dict.fromkeys(names)}
        filled = {name: [each for each in found if _files(path / name / each)] for name, found in folders.items()}
        for name, classes in filled.items():
            if not classes:
                raise DataError(
                    f"image folder '{path / name}' has no folders of classes; put the images of each class into one"
                )
        self._check_classes(Counter(each for name in names for each in folders[name]), filled, known)
        every = set().union(*filled.values())
        self.class_names = sort_class_names(every, known, _WHAT, note)
        self._note_missing(folders, filled, known)
        self._rotated = self._rescaled = 0
        self._samples = {name: self._read(name) for name in folders}
        self._note_changes(sum(len(labels) for _, labels in self._samples.values()))

    def _check_classes(
        self, counts: Mapping[str, int], filled: Mapping[str, list[str]], known: ClassNames | None
    ) -> None:
        """Refuse a class that only one split has, which may be a typo, unless `data.classes` names it."""
        for name, classes in filled.items() if known is None or not known.from_recipe else ():
            for each in classes:
                if counts[each] == 1 and not (known and each in known.names):
                    hint = nearest(each, set(counts) - {each})
                    raise DataError(
                        f"{_WHAT} '{self.path / name / each}' is in no other split ({hint}); rename it, remove "
                        "it, or name all classes in `data.classes`"
                    )

    def _note_missing(
        self, folders: Mapping[str, list[str]], filled: Mapping[str, list[str]], known: ClassNames | None
    ) -> None:
        every = set().union(*filled.values())
        hidden = {each.name for name in folders for each in (self.path / name).iterdir() if each.is_dir()}
        hidden -= set().union(*folders.values())
        empty = set().union(*folders.values()) - every - set(known.names if known else ())
        kinds = {f"which begin with {' or '.join(_IGNORED_PREFIXES)}": hidden, "which are empty": empty}
        skipped = [f"{', '.join(sorted(names))}, {why}" for why, names in kinds.items() if names]
        if skipped:
            self.note(f"no classes are the folders {'; '.join(skipped)}")
        for name, classes in filled.items():
            missing = [each for each in self.class_names if each in every - set(classes)]
            if missing:
                self.note(f"'{name}' holds no images of {', '.join(missing)}")

    def _note_changes(self, count: int) -> None:
        if self._rotated:
            self.note(f"{self._rotated} of {count} images were turned upright, as their EXIF data tell")
        if self._rescaled:
            self.note(
                f"{self._rescaled} of {count} images have 16 bits and were scaled to 8; transformers' pipelines clip "
                "such files at 255, so pass them images of 8 bits"
            )

    def __call__(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return pixels uint8 (N, 3, H, W) and labels int64 (N,) of a folder; each folder only once, to free memory."""
        return self._samples.pop(name)

    def _read(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        images: list[np.ndarray] = []
        labels: list[int] = []
        for number, each in enumerate(self.class_names):
            for file in _files(self.path / name / each):
                image = read_image(file)
                images.append(to_rgb_array(image))
                if images[-1].shape != images[0].shape:
                    sizes = f"{images[-1].shape[1:]}, others {images[0].shape[1:]}"
                    raise DataError(f"image '{file}' is {sizes}; resize beforehand")
                labels.append(number)
                self._rotated += image.rotated
                self._rescaled += image.rescaled
        return np.stack(images), np.asarray(labels, np.int64)


def _folders(path: Path, known: ClassNames | None) -> list[str]:
    """List the folders that may be classes."""
    names = sorted(entry.name for entry in path.iterdir() if entry.is_dir()) if path.is_dir() else []
    return [name for name in names if not name.startswith(_IGNORED_PREFIXES) or (known and name in known.names)]


def _files(folder: Path) -> list[Path]:
    """List the files of a class; empty if all are hidden."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return files if any(not file.name.startswith(".") for file in files) else []


def read_image(file: Path) -> DecodedImage:
    """Read an image, turned upright and with at most 8 bits.

    Raises:
        DataError: It cannot be read, or the range of its pixels is unknown.
    """
    try:
        with Image.open(file) as image:
            return decode_image(image)
    except Exception as error:  # Pillow's readers raise various errors on files of other formats
        raise DataError(f"image '{file}' cannot be read: {first_line(error)}") from error


def _make(source: DataSource, request: ReadRequest) -> SplitReader:
    path = find_path(source)
    return ImageFolderReader(path, request.names, request.find_names(), request.note)


KIND = DataKind(DataSource, _make)
