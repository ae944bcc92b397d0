"""Tables of datasets on disk, as `save_to_disk` of Hugging Face or parquet files hold them, and by name."""

import importlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DataError, first_line, nearest

_SPLITS, _STATE = "dataset_dict.json", "state.json"
# `train.parquet`, `train-00000-of-00002.parquet`
_PART = re.compile(r"(.+?)(-\d+-of-\d+)?\.parquet")


@dataclass(frozen=True)
class LoadedTable:
    """The table of one split.

    Attributes:
        table: A `pyarrow.Table`.
        features: What Hugging Face says of each column, by name: ``{"_type": "ClassLabel", "names": [...]}``.
        folder: What paths of images are relative to.
    """

    table: Any
    features: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    folder: Path = Path()


def import_package(name: str, needed_for: str) -> Any:
    """Import an optional package.

    Raises:
        DataError: It is not installed, or broken.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        reason = "" if error.name == package else f" ({first_line(error)})"
        raise DataError(
            f"{needed_for} needs the package {package}, which cannot be imported{reason}; run `pip install {package}`"
        ) from error


def open_table(path: Path, split: str) -> LoadedTable:
    """Read the table of a split; files of `save_to_disk` are mapped, not copied to memory.

    Args:
        path: A folder that `save_to_disk` wrote, a folder of parquet files that are called, or lie in folders that are
            called, like the splits, or one file, ``.parquet`` or ``.arrow``.
        split: Its name; ignored for one file.

    Raises:
        DataError: The path, the split or pyarrow is missing, or a file cannot be read.
    """
    if not path.exists():
        raise DataError(f"data path '{path}' does not exist; check the path")
    files = [path] if path.is_file() else _find_files(path, split)
    arrow = import_package("pyarrow", f"'{path}'")
    tables = [_read(file, arrow) for file in files]
    try:
        table = tables[0] if len(tables) == 1 else arrow.concat_tables(tables)
    except arrow.ArrowInvalid as error:
        raise DataError(f"the files of split '{split}' in '{path}' hold different columns; write them anew") from error
    return LoadedTable(table, _features(table), path if path.is_dir() else path.parent)


def load_table(name: str, config: str | None, revision: str | None, split: str) -> LoadedTable:
    """Load a split of a dataset by its name on the hub, through the package datasets and its cache.

    Raises:
        DataError: The package is missing, or it cannot load the split.
    """
    package = import_package("datasets", f"'{name}', which is no folder beside the recipe,")
    try:
        loaded = package.load_dataset(name, config, split=split, revision=revision)
        return LoadedTable(loaded.with_format("arrow")[:], loaded.features.to_dict())
    except Exception as error:  # the hub, the disk and builders raise classes of their own
        raise DataError(
            f"split '{split}' of dataset '{name}' cannot be loaded: {first_line(error).rstrip('.')}; check `path`, "
            "`config` and `splits`"
        ) from error


def _find_files(path: Path, split: str) -> Sequence[Path]:
    if (path / _SPLITS).is_file():
        splits = _json(path / _SPLITS, lambda found: [str(name) for name in found["splits"]])
        return _saved(path / split) if split in splits else _refuse_split(path, split, splits)
    if (path / _STATE).is_file():
        own = _json(path / _STATE, lambda found: found.get("_split"))
        return _saved(path) if own in (None, split) else _refuse_split(path, split, [str(own)])
    if (path / split / _STATE).is_file():
        return _saved(path / split)
    parts: dict[str, list[Path]] = {}
    for file in sorted(path.rglob("*.parquet")):
        match = _PART.fullmatch(file.name)
        for name in {file.name, match[1] if match else "", *file.relative_to(path).parts[:-1]}:
            parts.setdefault(name, []).append(file)
    if not parts:
        raise DataError(
            f"data folder '{path}' holds neither a dataset that `save_to_disk` wrote nor parquet files; check the path"
        )
    if split not in parts:
        found = {match[1] for files in parts.values() for file in files if (match := _PART.fullmatch(file.name))}
        return _refuse_split(path, split, sorted(found))
    folders = sorted({str(file.parent.relative_to(path)) for file in parts[split]})
    if len(folders) > 1:
        raise DataError(
            f"data folder '{path}' has split '{split}' in several folders, {', '.join(folders)}; name one in "
            "`data.config`"
        )
    return parts[split]


def _refuse_split(path: Path, split: str, splits: Sequence[str]) -> Sequence[Path]:
    raise DataError(f"data folder '{path}' has no split '{split}'; {nearest(split, splits)}")


def _saved(folder: Path) -> Sequence[Path]:
    """Return the files of a split that `save_to_disk` wrote."""
    files = _json(folder / _STATE, lambda found: [folder / str(each["filename"]) for each in found["_data_files"]])
    for file in files:
        if not file.is_file():
            raise DataError(f"dataset '{folder}' is incomplete, '{file.name}' is missing; copy or save it anew")
    if not files:
        raise DataError(f"dataset '{folder}' holds no samples")
    return files


def _json(file: Path, read: Callable[[Any], Any]) -> Any:
    try:
        return read(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"data file '{file}' cannot be read: {first_line(error)}; save the dataset anew") from error


def _read(file: Path, arrow: Any) -> Any:
    try:
        if file.suffix == ".parquet":
            return importlib.import_module("pyarrow.parquet").ParquetFile(file).read()
        return arrow.ipc.open_stream(arrow.memory_map(str(file))).read_all()
    except (OSError, ValueError, arrow.ArrowException) as error:
        raise DataError(
            f"data file '{file}' cannot be read: {first_line(error).rstrip('.')}; give .parquet files, or what "
            "`save_to_disk` wrote"
        ) from error


def _features(table: Any) -> Mapping[str, Mapping[str, Any]]:
    """Return what Hugging Face writes of the columns into a file; nothing if others wrote it."""
    try:
        found = json.loads((table.schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return {name: each for name, each in found.items() if isinstance(each, dict)} if isinstance(found, dict) else {}
