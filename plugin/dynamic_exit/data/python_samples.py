"""Inputs and labels in what a user's function returns: arrays, datasets, loaders, tables and lists of samples."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, default_collate

from ..errors import DataError, first_line
from .arrays import to_array, to_labels
from .split import UNNAMED

#: Names of labels and of a single input, in dicts and tables.
LABELS = ("labels", "label", "y", "target", "targets")
INPUTS = ("inputs", "images", "x")


@dataclass(frozen=True)
class LoadedSamples:
    """The samples of one split.

    Attributes:
        inputs: Arrays (N, ...) by name, ``UNNAMED`` for a single one without a name.
        labels: Numbers or names (N,).
        classes: The class names by label, where the data list them; else None.
    """

    inputs: dict[str, np.ndarray]
    labels: np.ndarray
    classes: list[str] | None = None


def collect_samples(
    given: object, function: str, split: str, channels_last: bool = False, groups: str | None = None
) -> LoadedSamples:
    """Find inputs and labels in what a function returned.

    Args:
        given: ``(inputs, labels)``; a dict or table with one of `LABELS`, whose other entries are inputs; a list or
            iterator of samples, each such a pair or dict; a torch dataset or loader of them; or a dataset of Hugging
            Face. Inputs are what `to_array` takes, or a dict of several by name.
        function: The function, for messages.
        split: Name of the split, for messages.
        channels_last: Whether Pillow images become (H, W, 3), not (3, H, W).
        groups: An entry of dicts and tables that stands among the inputs, even beside a single one.

    Raises:
        DataError: It is something else, or its arrays cannot be made.
    """
    collector = _Collector(function, split, channels_last, groups)
    arrays, labels = collector.convert(*collector.find(given))
    classes = _find_classes(given)
    numbered = labels.dtype.kind in "iu" and len(labels) and 0 <= labels.min() and labels.max() < len(classes or ())
    return LoadedSamples(arrays, labels, classes if numbered else None)


class _Collector:
    """Finds inputs and labels of one split."""

    def __init__(self, function: str, split: str, channels_last: bool, groups: str | None):
        self._function, self._split, self._channels_last, self._groups = function, split, channels_last, groups
        self._what = f"split '{split}' of {function}"

    def find(self, given: Any) -> tuple[Any, Any]:
        """Return inputs and labels, not converted yet."""
        if isinstance(given, DataLoader):
            return self._from_loader(given)
        if isinstance(given, Dataset) and not isinstance(given, IterableDataset) and hasattr(given, "__len__"):
            return self._from_rows(self._take(given[index] for index in range(len(given))))
        if isinstance(given, Mapping):
            return self._from_columns(given)
        columns = getattr(given, "column_names", None) or getattr(given, "columns", None)
        if columns is not None and hasattr(given, "__getitem__"):
            return self._from_table(given, [*columns])
        if isinstance(given, tuple | list) and len(given) == 2 and not all(isinstance(each, Mapping) for each in given):
            return given[0], given[1]
        if isinstance(given, list) or not isinstance(given, Sequence | Mapping | np.ndarray | torch.Tensor):
            if isinstance(given, Iterable):
                return self._from_rows(self._take(given))
        raise self._refuse(_describe(given))

    def convert(self, inputs: Any, labels: Any) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Make arrays of inputs, by name, and labels."""
        numbers = to_labels(labels, self._what)
        if isinstance(inputs, Mapping):
            named = {str(name): self._array(each, f"input '{name}' of {self._what}") for name, each in inputs.items()}
            return named, numbers
        if _are_arrays(inputs) and len(inputs) != len(numbers) and all(len(each) == len(numbers) for each in inputs):
            raise self._refuse_unnamed(len(inputs))
        return {UNNAMED: self._array(inputs, f"the input of {self._what}")}, numbers

    def _array(self, values: Any, what: str) -> np.ndarray:
        array = to_array(values, what)
        images = isinstance(values, list | tuple) and values and isinstance(values[0], Image.Image)
        return np.moveaxis(array, 1, -1) if images and self._channels_last else array

    def _from_columns(self, columns: Mapping[Any, Any]) -> tuple[Any, Any]:
        label = next((name for name in LABELS if name in columns), None)
        if label is None:
            raise self._refuse(f"{', '.join(map(str, columns)) or 'nothing'} and no 'labels'")
        only = next((name for name in INPUTS if name in columns), None)
        if only is None:
            return {name: columns[name] for name in columns if name != label}, columns[label]
        if self._groups not in columns:
            return columns[only], columns[label]
        return {UNNAMED: columns[only], self._groups: columns[self._groups]}, columns[label]

    def _from_table(self, table: Any, names: Sequence[str]) -> tuple[Any, Any]:
        inputs, labels = self._from_columns({name: table[name] for name in names})
        if isinstance(inputs, Mapping) and inputs:
            inputs = {name: self._array(each, f"column '{name}' of {self._what}") for name, each in inputs.items()}
            groups = {name: inputs.pop(name) for name in [self._groups] if name in inputs}
            if inputs and all(array.ndim == 1 for array in inputs.values()):  # a row of numbers is a sample
                inputs = {UNNAMED: np.stack([*inputs.values()], axis=1)}
            return {**inputs, **groups}, labels
        return inputs, labels

    def _from_loader(self, loader: DataLoader[Any]) -> tuple[Any, Any]:
        sampler = loader.batch_sampler
        if isinstance(loader.dataset, IterableDataset) or type(sampler) is not BatchSampler:
            return self._join(self._take(loader))
        rows = [*sampler.sampler]
        if len({*rows}) != len(rows):
            raise DataError(
                f"{self._function} returns a loader that draws samples more than once for split '{self._split}'; "
                "return its dataset"
            )
        # in the dataset's order and to the last one, so that every run reads the same
        samples = self._take(loader.dataset[row] for row in sorted(rows))
        if loader.collate_fn is default_collate:
            return self._from_rows(samples)
        return self._pair(self._call(loader.collate_fn, samples), "batches")

    def _join(self, batches: Sequence[Any]) -> tuple[Any, Any]:
        """Join batches of a loader in its own order."""
        pairs = [self.convert(*self._pair(batch, "batches")) for batch in batches]
        if not pairs:
            return self._from_rows([])
        try:
            inputs = {name: np.concatenate([each[name] for each, _ in pairs]) for name in pairs[0][0]}
            return inputs, np.concatenate([labels for _, labels in pairs])
        except (KeyError, ValueError) as error:
            raise DataError(f"{self._what} has batches of different names or shapes; give all one shape") from error

    def _from_rows(self, rows: Sequence[Any]) -> tuple[Any, Any]:
        if not rows:
            return np.zeros((0, 1), np.float32), np.zeros(0, np.int64)
        pairs = [self._pair(row, "samples") for row in rows]
        first, labels = pairs[0][0], [label for _, label in pairs]
        if isinstance(first, Mapping):
            return {name: [self._find(row, name) for row, _ in pairs] for name in first}, labels
        if _are_arrays(first):
            raise self._refuse_unnamed(len(first))
        return [row for row, _ in pairs], labels

    def _pair(self, given: Any, what: str) -> tuple[Any, Any]:
        if isinstance(given, Mapping):
            return self._from_columns(given)
        if isinstance(given, tuple | list) and len(given) == 2:
            return given[0], given[1]
        raise self._refuse(f"{what} of {_describe(given)}")

    def _find(self, row: Any, name: str) -> Any:
        if not isinstance(row, Mapping) or name not in row:
            raise DataError(f"{self._what} has a sample without the input '{name}'; give all inputs of every sample")
        return row[name]

    def _take(self, samples: Iterable[Any]) -> list[Any]:
        return self._call(list, samples)

    def _call(self, function: Callable[..., Any], samples: Iterable[Any]) -> Any:
        try:
            return function(samples)
        except (Exception, SystemExit) as error:  # user code makes the samples, and may raise anything
            raise DataError(f"{self._function} cannot load split '{self._split}': {first_line(error)}") from error

    def _refuse(self, got: str) -> DataError:
        return DataError(
            f"{self._function} must return inputs and labels; got {got} for split '{self._split}'; return "
            "(inputs, labels), a dict that has 'labels', or a dataset of such samples"
        )

    def _refuse_unnamed(self, count: int) -> DataError:
        return DataError(
            f"{self._what} has {count} inputs without names; return them in a dict, by the names in the model's forward"
        )


def _are_arrays(values: Any) -> bool:
    """Whether values are several arrays, or images, in a list."""
    arrays = (np.ndarray, torch.Tensor)
    return (
        isinstance(values, list | tuple)
        and len(values) > 1
        and all(isinstance(each, Image.Image) or (isinstance(each, arrays) and each.ndim) for each in values)
    )


def _describe(given: object) -> str:
    if isinstance(given, tuple | list):
        return f"{len(given)} values"
    kind = type(given).__name__
    return "nothing" if given is None else f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"


def _find_classes(given: Any) -> list[str] | None:
    """Return the class names that a dataset lists by label: `classes` in torchvision, ClassLabel of Hugging Face."""
    features = getattr(given, "features", None)
    if isinstance(features, Mapping):
        label = next((name for name in LABELS if name in features), None)
        names = getattr(features.get(label), "names", None)
    else:
        while not hasattr(given, "classes") and hasattr(given, "dataset"):
            given = given.dataset  # of a loader, or of a subset
        names = getattr(given, "classes", None) if isinstance(given, Dataset) else None
    return list(names) if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names) else None
