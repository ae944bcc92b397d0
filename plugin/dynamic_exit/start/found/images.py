"""Pictures in folders of classes, with or without folders of splits above them."""

from collections import Counter
from pathlib import Path

from ...errors import DataError
from ...images import ImageFile, is_image_name
from ...images.files import read_size
from ...images.ignored import IGNORED_PREFIXES
from ..splits import check_counts, is_split_name
from .base import DataRequest, FoundData

# pictures whose sizes are looked at, spread over all
_LOOKED_AT = 200


def find_images(request: DataRequest) -> FoundData | None:
    """Return what a folder of pictures holds; None if it is none.

    Raises:
        DataError: Its pictures are not in folders of classes, or cannot be parted.
    """
    path = request.file
    if not path.is_dir():
        return None
    folders = _folders(path)
    loose = [entry for entry in path.iterdir() if entry.suffix and is_image_name(entry.name) and entry.is_file()]
    if not folders and not loose:
        return None
    splits = [name for name in folders if is_split_name(name) and _folders(path / name)]
    if not splits and _looks_like_splits(path, folders):
        splits = folders
    images = {name: {each: _images(path / name / each) for each in _folders(path / name)} for name in splits or [""]}
    counts: Counter[str] = Counter()
    for found in images.values():
        counts.update({each: len(files) for each, files in found.items() if files})
    if not counts:
        if not loose:
            return None
        raise DataError(
            f"'{request.path}' holds {len(loose)} pictures that are in no folder of a class; put the pictures of each "
            "class into a folder of its name"
        )
    chosen = request.choose({name: sum(map(len, found.values())) for name, found in images.items()})
    notes = check_counts(counts, chosen.drawn, f"'{request.path}'")
    every = [file for found in images.values() for files in found.values() for file in files]
    sizes = frozenset(_size(file) for file in every[:: max(1, len(every) // _LOOKED_AT)])
    seen = sorted(sizes)
    shape = f"{seen[0][0]} x {seen[0][1]}" if len(seen) == 1 else f"of sizes from {min(seen)} to {max(seen)}"
    described = f"{len(every)} pictures ({shape}) of {len(counts)} classes ({_list(sorted(counts))})"
    keys = {"stratify": True, "duplicates": "drop"} if chosen.drawn else {}
    return FoundData("imagefolder", request.path, chosen, "images", len(counts), described, keys, notes, sizes)


def _folders(path: Path) -> list[str]:
    names = sorted(each.name for each in path.iterdir() if each.is_dir()) if path.is_dir() else []
    return [name for name in names if not name.startswith(IGNORED_PREFIXES)]


def _looks_like_splits(path: Path, folders: list[str]) -> bool:
    """Whether pictures lie two folders deep alone, below folders that share names."""
    if any(_images(path / name) for name in folders):
        return False
    inner = [{each for each in _folders(path / name) if _images(path / name / each)} for name in folders]
    return len(inner) > 1 and bool(set.intersection(*inner))


def _images(folder: Path) -> list[Path]:
    return [each for each in sorted(folder.iterdir()) if is_image_name(each.name) and each.is_file()]


def _size(file: Path) -> tuple[int, int]:
    try:
        return read_size(ImageFile(file), upright=True)
    except DataError as error:
        raise DataError(f"{error}; repair or remove it") from error


def _list(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:5])} and {len(names) - 5} more"
