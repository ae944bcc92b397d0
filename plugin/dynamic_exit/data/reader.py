"""What every source of data provides: a function that returns the samples of a split."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from numpy.typing import ArrayLike

from ..errors import DataError
from ..images import ImageReading
from ..passes import ModelSource
from ..recipe.data import DataSource
from ..sources.class_names import ClassNames
from ..sources.spelling import Note

#: Inputs and labels of one split: one array (N, ...), or several by name, and N labels that are numbers or names.
Samples = tuple[ArrayLike | Mapping[str, ArrayLike], ArrayLike]
#: Returns the samples of a split by its name.
SplitReader = Callable[[str], Samples]


@dataclass(frozen=True)
class ReadRequest:
    """What a source may need besides its stanza.

    Attributes:
        names: The name of each split, repeated if several splits share it.
        model: The backbone's stanza.
        find_names: Finds the class names, on demand; None if they are unknown.
        note: Receives notes on the data.
        images: How images are read.
    """

    names: Sequence[str]
    model: ModelSource | None
    find_names: Callable[[], ClassNames | None]
    note: Note
    images: ImageReading = ImageReading()


def find_path(source: DataSource) -> Path:
    """Return the path of a source that is a file or folder.

    Raises:
        DataError: It does not exist.
    """
    path = Path(source.path)
    if not path.exists():
        raise DataError(f"data path '{path}' does not exist; check the path")
    return path
