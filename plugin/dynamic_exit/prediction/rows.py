"""What every kind of data without labels provides: its rows in order, and inputs of a model made of some of them."""

import importlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..artifact.manifest import Manifest
from ..core.hashing import digest
from ..errors import DataError

#: A path below the data, or the number of a row from 0.
Key = str | int


@dataclass(frozen=True)
class RowRequest:
    """What is read, and for which model.

    Attributes:
        data: A file or a folder.
        folder: The model's folder.
        manifest: Its manifest.
        columns: Columns of a text, and of a second text that belongs to it: names, or numbers from 0 for files without
            a header. None: those of the recipe.
    """

    data: Path
    folder: Path
    manifest: Manifest
    columns: tuple[str | int, ...] | None = None


class Row(NamedTuple):
    """A row, not yet decoded.

    Attributes:
        key: Tells it from others.
        value: What its source makes inputs of.
    """

    key: Key
    value: Any


@dataclass(frozen=True)
class Prepared:
    """Inputs of some rows.

    Attributes:
        inputs: Of the rows without a fault, each (n, ...), by name.
        faults: Place of a row among those that were given -> why no input can be made of it.
    """

    inputs: dict[str, np.ndarray]
    faults: dict[int, str] = field(default_factory=dict)


class RowSource(Protocol):
    """Rows of one kind of data.

    Attributes:
        stamp: Changes with the data.
        settings: What else decides what is read, as JSON.
    """

    stamp: str
    settings: list[Any]

    def rows(self, start: int) -> Generator[Row, None, None]:
        """Yield the rows from one of them on, in an order that is always the same.

        Args:
            start: Number of the first, from 0.

        Raises:
            DataError: The data cannot be read.
        """

    def count(self) -> int:
        """Return how many rows there are; texts are read for it.

        Raises:
            DataError: The data cannot be read.
        """

    def prepare(self, rows: Sequence[Row]) -> Prepared:
        """Make inputs of rows, at least one."""


def open_rows(request: RowRequest) -> RowSource:
    """Open the data, whatever kind they are of.

    Raises:
        DataError: They are not there, of no known kind, or not for this model.
    """
    data = request.data
    if not data.exists():
        raise DataError(f"data '{data}' does not exist; check the path")
    kinds = [importlib.import_module(f".{name}", __package__) for name in ("pictures", "texts", "arrays")]
    kind: ModuleType | None = next((each for each in kinds if each.takes(data)), None)
    if kind is None:
        raise DataError(f"data '{data}' must be {', '.join(each.WHAT for each in kinds[:-1])} or {kinds[-1].WHAT}")
    source: RowSource = kind.open_rows(request)
    return source


def file_stamp(path: Path) -> str:
    """Return what changes with a file: its size and time."""
    stat = path.stat()
    return digest(f"{stat.st_size} {stat.st_mtime_ns}")


def check_task(request: RowRequest, task: str, what: str) -> None:
    """Refuse data that are for another task than the model.

    Raises:
        DataError: They are.
    """
    if request.manifest.task != task:
        raise DataError(
            f"data '{request.data}' is {what}, the model in '{request.folder}' is for {request.manifest.task}"
        )


def missing_package(name: str | None, what: str) -> DataError:
    """Return the error for a package that pictures or texts need."""
    return DataError(f"{what} need {name}, which is not installed; install the extra `serve`")
