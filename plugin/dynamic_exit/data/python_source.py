"""Samples that a function of the user loads."""

from ..core.user_code import load_function
from ..errors import DataError, first_line
from ..recipe.data import DataKind, DataSource
from ..sources.class_names import merge_class_lists
from .python_samples import LoadedSamples, collect_samples
from .reader import ReadRequest, Samples, SplitReader


class PythonReader:
    """Calls ``file.py:function`` or ``package.module:function`` with the name of each split.

    Args:
        path: The function; it returns inputs and labels, or whatever else `collect_samples` takes.
        request: Names of the splits, and where notes on the classes go.
        channels_last: Whether images shall be (H, W, 3).
        groups: An entry that stands among the inputs as well.

    Attributes:
        class_names: In the order of the labels, if the datasets list them (`classes` in torchvision, `ClassLabel`);
            else None.

    Raises:
        DataError: The function raises an error, or what it returns does not say what inputs and labels are.
    """

    def __init__(self, path: str, request: ReadRequest, channels_last: bool = False, groups: str | None = None):
        self._path, self._load, self._groups = path, load_function(path), groups
        found = {name: self._read(name, channels_last) for name in dict.fromkeys(request.names)}
        labels, self.class_names = merge_class_lists(
            {name: each.labels for name, each in found.items()},
            {name: each.classes for name, each in found.items()},
            request.find_names,
            request.note,
        )
        self._samples = {name: (each.inputs, labels[name]) for name, each in found.items()}

    def _read(self, name: str, channels_last: bool) -> LoadedSamples:
        try:
            given = self._load(name)
        except (Exception, SystemExit) as error:  # user code may raise anything
            raise DataError(f"'{self._path}' cannot load split '{name}': {first_line(error)}") from error
        return collect_samples(given, f"'{self._path}'", name, channels_last, self._groups)

    def __call__(self, name: str) -> Samples:
        """Return inputs and labels of a split; each split only once, to free memory."""
        return self._samples.pop(name)


def _make(source: DataSource, request: ReadRequest) -> SplitReader:
    groups = None if source.groups is None else str(source.groups)
    return PythonReader(source.path, request, source.layout == "channels_last", groups)


KIND = DataKind(DataSource, _make)
