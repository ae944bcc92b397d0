"""Samples that a function of the user loads."""

from ..core.user_code import load_function
from ..errors import DataError, first_line
from ..recipe.data import DataKind, DataSource
from .class_names import merge_class_lists, renumber
from .python_samples import LoadedSamples, collect_samples
from .reader import ReadRequest, Samples, SplitReader


class PythonReader:
    """Calls ``file.py:function`` or ``package.module:function`` with the name of each split.

    Args:
        path: The function; it returns inputs and labels, or whatever else `collect_samples` takes.
        request: Names of the splits, and where notes on the classes go.
        channels_last: Whether images shall be (H, W, 3).

    Attributes:
        class_names: In the order of the labels, if the datasets list them (`classes` in torchvision, `ClassLabel`);
            else None.

    Raises:
        DataError: The function raises an error, or what it returns does not say what inputs and labels are.
    """

    def __init__(self, path: str, request: ReadRequest, channels_last: bool = False):
        self._path, self._load = path, load_function(path)
        found = {name: self._read(name, channels_last) for name in dict.fromkeys(request.names)}
        lists = [each.classes for each in found.values()]
        self.class_names: list[str] | None = None
        if all(each is not None for each in lists):
            self.class_names = merge_class_lists(
                [each for each in lists if each is not None], request.find_names(), "class", request.note
            )
        self._samples = {name: self._number(each) for name, each in found.items()}

    def _read(self, name: str, channels_last: bool) -> LoadedSamples:
        try:
            given = self._load(name)
        except Exception as error:  # user code may raise anything
            raise DataError(f"'{self._path}' cannot load split '{name}': {first_line(error)}") from error
        return collect_samples(given, f"'{self._path}'", name, channels_last)

    def _number(self, loaded: LoadedSamples) -> Samples:
        if self.class_names is None or loaded.classes is None:
            return loaded.inputs, loaded.labels
        return loaded.inputs, renumber(loaded.labels, loaded.classes, self.class_names)

    def __call__(self, name: str) -> Samples:
        """Return inputs and labels of a split; each split only once, to free memory."""
        return self._samples.pop(name)


def _make(source: DataSource, request: ReadRequest) -> SplitReader:
    return PythonReader(source.path, request, source.layout == "channels_last")


KIND = DataKind(DataSource, _make)
