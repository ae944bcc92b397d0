"""Datasets of Hugging Face on disk or by name, parquet files, tar files, and functions of the user."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...data.arrow_columns import find_kind
from ...data.arrow_files import LoadedTable, import_package, load_table, open_table
from ...errors import DataError, first_line
from ..questions import Question
from .base import DataRequest, FoundData, Holds

_PART = re.compile(r"(.+?)(-\d+-of-\d+)?\.parquet")
_FUNCTION = re.compile(r"(.+\.py|[A-Za-z_][\w.]*):\w+")


def find_function(request: DataRequest) -> FoundData | None:
    """Return what is known of a function that gives samples: its name; None if the path names none."""
    if not _FUNCTION.fullmatch(request.path):
        return None
    about = f"what the samples of '{request.path}' are"
    holds = request.ask(Question("--holds", about, ("images", "arrays"), "arrays"))
    splits = request.choose(dict.fromkeys(("train", "calibration", "test")))
    found: Holds = "images" if holds == "images" else "arrays"
    return FoundData("python", request.path, splits, found, None, f"samples of the function {request.path}")


def find_dataset(request: DataRequest) -> FoundData | None:
    """Return what a dataset on disk holds; None if the path is none.

    Raises:
        DataError: It cannot be read.
    """
    path = request.file
    if not path.exists():
        return None
    names = _splits_on_disk(path)
    if names is None:
        return None
    tables = {name: open_table(path, name) for name in names}
    return _describe(request, {name: each.table.num_rows for name, each in tables.items()}, next(iter(tables.values())))


def find_dataset_by_name(request: DataRequest) -> FoundData:
    """Return what a dataset holds that is named as on the hub.

    Raises:
        DataError: It cannot be loaded.
    """
    if request.path.startswith((".", "/", "~")) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", request.path):
        raise DataError(f"data path '{request.path}' does not exist; check the path")
    package = import_package("datasets", f"'{request.path}', which is neither a file nor a folder here,")
    try:
        names = package.get_dataset_split_names(request.path)
    except Exception as error:  # the hub, the disk and builders raise classes of their own
        raise DataError(
            f"'{request.path}' is neither a file nor a folder, and no dataset of that name can be loaded: "
            f"{first_line(error).rstrip('.')}; check --data"
        ) from error
    chosen = request.choose(dict.fromkeys(names))
    return _describe(
        request, dict.fromkeys(names), load_table(request.path, None, None, chosen.names["test"].partition("[")[0])
    )


def _splits_on_disk(path: Path) -> list[str] | None:
    """Return the names of the splits; None if the path is no dataset."""
    if path.is_file():
        return [""] if path.suffix in (".parquet", ".arrow") else None
    if (path / "dataset_dict.json").is_file():
        return [str(name) for name in json.loads((path / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]]
    if (path / "state.json").is_file():
        return [json.loads((path / "state.json").read_text(encoding="utf-8")).get("_split") or ""]
    files = [match[1] for file in sorted(path.rglob("*.parquet")) if (match := _PART.fullmatch(file.name))]
    return list(dict.fromkeys(files)) or None


def _describe(request: DataRequest, sizes: Mapping[str, int | None], example: LoadedTable) -> FoundData:
    kinds = {each.name: find_kind(each.type, example.features.get(each.name)) for each in example.table.schema}
    holds: Holds = "images" if "image" in kinds.values() else "texts" if "text" in kinds.values() else "arrays"
    chosen = request.choose(sizes)
    keys: dict[str, Any] = {"text": {}} if holds == "texts" else {}
    if request.label_column:
        keys["label"] = request.label_column
    if request.text_column:
        keys["inputs"] = [request.text_column]
    if chosen.drawn:
        keys |= {"stratify": True, "duplicates": "drop"}
    lists = [each["names"] for each in example.features.values() if each.get("_type") == "ClassLabel"]
    classes = len(lists[0]) if lists else None
    known = [size for size in sizes.values() if size is not None]
    count = f"{sum(known)} " if known else ""
    described = f"{count}{holds} of {classes or 'so far unknown'} classes"
    return FoundData("datasets", request.path, chosen, holds, classes, described, keys)
