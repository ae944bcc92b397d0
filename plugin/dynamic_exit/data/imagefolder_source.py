"""Images in folders, one folder per class."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..errors import DataError, nearest
from ..images import ImageDecoder, ImageFile, ImageReading, is_image_name
from ..images.ignored import IGNORED_PREFIXES
from ..recipe.data import DataKind, DataSource
from ..sources.class_names import ClassNames, sort_class_names
from ..sources.spelling import Note, unify_names
from .groups import refuse_groups
from .reader import ReadRequest, SplitReader, find_path

_WHAT = "class folder"


class ImageFolderReader:
    """Reads images whose folders are their classes; all splits share the classes.

    Args:
        path: Holds a folder per split.
        names: The folder of each split, repeated if several splits share it.
        known: The class names, if known.
        note: Receives notes on folders and files that are skipped, and those of `ImageDecoder`.
        reading: How images are read.
        max_bad: Images that may be left out since they cannot be read.

    Attributes:
        class_names: In the order of the labels.
        image_format: The form of the images.

    Raises:
        DataError: A split has no classes, or one that neither another split nor a known name has; others as for
            `ImageDecoder`.
    """

    def __init__(
        self,
        path: Path,
        names: Sequence[str],
        known: ClassNames | None,
        note: Note,
        reading: ImageReading,
        max_bad: int = 0,
    ):
        self.path, self.note = path, note
        folders = _group_by_class({name: _folders(path / name, known) for name in names}, known, note)
        listed = {
            name: {each: _list_images([path / name / folder for folder in found]) for each, found in classes.items()}
            for name, classes in folders.items()
        }
        images = {name: {each: files for each, (files, _) in found.items()} for name, found in listed.items()}
        filled = {name: [each for each, files in found.items() if files] for name, found in images.items()}
        for name, classes in filled.items():
            if not classes:
                raise DataError(
                    f"image folder '{path / name}' has no folders of classes; put the images of each class into one"
                )
        self._check_classes(Counter(each for name in names for each in folders[name]), filled, known)
        every = set().union(*filled.values())
        self.class_names = sort_class_names(every, known, _WHAT, note)
        self._note_skipped(folders, filled, known)
        _note_foreign([file for found in listed.values() for _, others in found.values() for file in others], note)
        self._labels = {
            name: np.repeat(
                np.arange(len(self.class_names)), [len(images[name].get(each, ())) for each in self.class_names]
            )
            for name in folders
        }
        files = {name: [file for each in self.class_names for file in images[name].get(each, ())] for name in folders}
        self._decode = ImageDecoder(files, reading, max_bad, note)
        self.image_format = self._decode.form

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

    def _note_skipped(
        self, folders: Mapping[str, Mapping[str, list[str]]], filled: Mapping[str, list[str]], known: ClassNames | None
    ) -> None:
        every = set().union(*filled.values())
        hidden = {each.name for name in folders for each in (self.path / name).iterdir() if each.is_dir()}
        hidden -= {each for classes in folders.values() for found in classes.values() for each in found}
        empty = set().union(*folders.values()) - every - set(known.names if known else ())
        kinds = {f"which begin with {' or '.join(IGNORED_PREFIXES)}": hidden, "which are empty": empty}
        skipped = [f"{', '.join(sorted(names))}, {why}" for why, names in kinds.items() if names]
        if skipped:
            self.note(f"no classes are the folders {'; '.join(skipped)}")

    def __call__(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return pixels uint8 (N, C, H, W) and labels int64 (N,) of a folder; each folder only once."""
        pixels, were_read = self._decode(name)
        return pixels, self._labels[name][were_read]


def _folders(path: Path, known: ClassNames | None) -> list[str]:
    """List the folders that may be classes."""
    names = sorted(entry.name for entry in path.iterdir() if entry.is_dir()) if path.is_dir() else []
    return [name for name in names if not name.startswith(IGNORED_PREFIXES) or (known and name in known.names)]


def _group_by_class(
    folders: Mapping[str, list[str]], known: ClassNames | None, note: Note
) -> dict[str, dict[str, list[str]]]:
    """Group the folders of each split by the class that they stand for; several may be spelled alike."""
    spelling = unify_names(set().union(*folders.values()), known.names if known else (), _WHAT, note)
    grouped: dict[str, dict[str, list[str]]] = {}
    for name, found in folders.items():
        classes = grouped.setdefault(name, {})
        for each in found:
            classes.setdefault(spelling[each], []).append(each)
    return grouped


def _list_images(folders: Sequence[Path]) -> tuple[list[ImageFile], list[Path]]:
    """List the images of a class, and what else its folders hold."""
    images: list[ImageFile] = []
    others: list[Path] = []
    for entry in (entry for folder in folders for entry in sorted(folder.iterdir())):
        # a link that leads nowhere is a broken image; a pipe would be waited for
        if is_image_name(entry.name) and (entry.is_file() or not entry.exists()):
            images.append(ImageFile(entry))
        else:
            others.append(entry)
    return images, others


def _note_foreign(entries: Sequence[Path], note: Note) -> None:
    shown = [entry for entry in entries if not entry.name.startswith(".")] or entries
    if shown:
        if len(entries) == 1:
            note(f"left out of the class folders: '{shown[0]}', which is no image file")
        else:
            note(f"left out of the class folders: {len(entries)} entries that are no image files, such as '{shown[0]}'")


def _make(source: DataSource, request: ReadRequest) -> SplitReader:
    refuse_groups(source)
    path, known = find_path(source), request.find_names()
    return ImageFolderReader(path, request.names, known, request.note, request.images, source.max_bad)


KIND = DataKind(DataSource, _make)
