"""Tar files of samples in the layout of webdataset: files that share a name up to its first dot are one sample."""

import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError, first_line
from .files import ImageFile

# up to the first dot behind the folders; what follows is the ending
_NAME = re.compile(r"((?:.*/)?[^/.]+)\.([^/]+)")


@dataclass(frozen=True)
class ShardSample:
    """One sample of a shard.

    Attributes:
        path: The shard.
        name: What the sample's files share.
        parts: Its files by their ending in lower case, such as ``jpg``.
    """

    path: Path
    name: str
    parts: Mapping[str, ImageFile]


def read_shard(path: Path) -> Iterator[ShardSample]:
    """Yield the samples of a shard in order; hidden files, folders and files without an ending are no part of any.

    Raises:
        DataError: It is no uncompressed tar file, or two files of a sample have one ending.
    """
    name, parts = "", dict[str, ImageFile]()
    for member in _members(path):
        found = _NAME.fullmatch(member.name)
        if not member.isfile() or found is None or Path(member.name).name.startswith("."):
            continue
        if found[1] != name:
            if parts:
                yield ShardSample(path, name, parts)
            name, parts = found[1], {}
        ending = found[2].lower()
        if ending in parts:
            raise DataError(f"shard '{path}' holds '{member.name}' twice; write each file of a sample once")
        parts[ending] = ImageFile(path, member.name, member.offset_data, member.size)
    if parts:
        yield ShardSample(path, name, parts)


def _members(path: Path) -> Iterator[tarfile.TarInfo]:
    try:
        with tarfile.open(path, "r:") as archive:
            yield from archive
    except (tarfile.TarError, OSError, EOFError) as error:
        reason = first_line(error).rstrip(".")
        raise DataError(
            f"shard '{path}' is no uncompressed tar file: {reason}; unpack it if it is compressed"
        ) from error


def find_shards(folder: Path, name: str) -> list[Path]:
    """Find the shards of a split.

    Args:
        folder: Of all shards, or a single one, whose name counts alone.
        name: A file; a folder of ``.tar`` files; a pattern such as ``train-*.tar`` or ``train-{000..009}.tar``; or what
            the names of shards begin with, before ``-``, ``_`` or ``.``.

    Returns:
        The shards in order.

    Raises:
        DataError: There are none, or one that the pattern names is missing.
    """
    if folder.is_file():
        return [folder]
    if "{" in name:
        shards = [folder / each for each in _expand_braces(name)]
    elif re.search(r"[*?]", name):
        shards = sorted(folder.glob(name))
    elif (folder / name).is_dir():
        shards = sorted((folder / name).glob("*.tar"))
    else:
        files = [folder / name, folder / f"{name}.tar"]
        shards = next(([file] for file in files if file.is_file()), sorted(folder.glob(f"{name}[-_.]*.tar")))
    if not shards:
        raise DataError(
            f"folder '{folder}' has no shards of split '{name}', such as '{name}-000000.tar'; name a pattern"
        )
    missing = next((shard for shard in shards if not shard.is_file()), None)
    if missing is not None:
        raise DataError(f"shard '{missing}' does not exist; check the pattern '{name}'")
    return shards


def _expand_braces(name: str) -> list[str]:
    """Expand ``{000..009}`` and ``{a,b}``, from left to right."""
    found = re.search(r"\{([^{}]*)\}", name)
    if found is None:
        return [name]
    bounds = re.fullmatch(r"(\d+)\.\.(\d+)", found[1])
    choices = found[1].split(",")
    if bounds:
        numbers = range(int(bounds[1]), int(bounds[2]) + 1)
        choices = [str(number).zfill(len(bounds[1])) for number in numbers]
    return [each for choice in choices for each in _expand_braces(name[: found.start()] + choice + name[found.end() :])]
