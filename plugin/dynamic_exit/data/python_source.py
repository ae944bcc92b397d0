"""Samples that a function of the user loads."""

from ..core.user_code import load_function
from ..errors import DataError, first_line
from ..recipe.data import DataKind, DataSource
from .reader import ReadRequest, Samples, SplitReader


class PythonReader:
    """Calls ``file.py:function`` or ``package.module:function`` with the name of each split.

    Args:
        path: The function; it returns inputs and labels, as `check_samples` takes them.
    """

    def __init__(self, path: str):
        self._path, self._load = path, load_function(path)

    def __call__(self, name: str) -> Samples:
        """Load a split.

        Raises:
            DataError: The function raises an error, or does not return inputs and labels.
        """
        try:
            inputs, labels = self._load(name)
        except Exception as error:  # user code may raise anything
            raise DataError(f"'{self._path}' cannot load split '{name}': {first_line(error)}") from error
        return inputs, labels


def _make(source: DataSource, request: ReadRequest) -> SplitReader:
    return PythonReader(source.path)


KIND = DataKind(DataSource, _make)
