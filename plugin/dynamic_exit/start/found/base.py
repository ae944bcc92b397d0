"""What is found out about data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..questions import Ask
from ..splits import ChosenSplits, choose_splits, read_splits

Holds = Literal["images", "texts", "arrays"]


@dataclass(frozen=True)
class FoundData:
    """Data, as a recipe names them.

    Attributes:
        source: The recipe's `data.source`.
        path: As given.
        splits: The splits.
        holds: ``images`` are files or bytes of 0..255.
        class_count: Number of classes; None if unknown before the data are read.
        described: One phrase on what was found.
        keys: Further keys of the stanza.
        notes: What the user should know.
        sizes: Heights and widths of images, as far as looked at.
    """

    source: str
    path: str
    splits: ChosenSplits
    holds: Holds
    class_count: int | None
    described: str
    keys: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    sizes: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True)
class DataRequest:
    """What the user says of the data.

    Attributes:
        path: File, folder, name or function.
        splits: As ``train=a,calibration=b,test=c``; None finds them.
        text_column: Name or number; None finds it.
        label_column: Name or number; None finds it.
        ask: Answers questions.
    """

    path: str
    splits: str | None
    text_column: str | None
    label_column: str | None
    ask: Ask

    @property
    def file(self) -> Path:
        """The path, if it is one."""
        return Path(self.path).expanduser()

    def choose(self, sizes: Mapping[str, int | None]) -> ChosenSplits:
        """Choose the splits: the user's, else as they are called."""
        return read_splits(self.splits, sizes) if self.splits else choose_splits(sizes, f"'{self.path}'")
