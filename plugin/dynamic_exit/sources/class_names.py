"""Class names: where they come from, their order, and the encoding of labels as class numbers."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError, nearest
from ..passes import ModelSource
from ..recipe.data import DataSource
from .spelling import Note, unify_names

if TYPE_CHECKING:
    from torch import nn

#: Describes where the label of an index stands: the file or split, and the position in it (may be empty).
DescribeLocation = Callable[[int], tuple[str, str]]

_NUMBER = re.compile(r"\s*[+-]?\d+(\.\d*)?\s*", re.ASCII)
# larger numbers are no class numbers, and may not fit an int64
_LARGEST = 2**31


@dataclass(frozen=True)
class ClassNames:
    """Class names that the recipe or the backbone states.

    Attributes:
        names: In the order of the logits.
        recipe: Whether they come from `data.classes`, which must hold every name in the data; else they come from the
            backbone.
    """

    names: tuple[str, ...]
    from_recipe: bool = True

    @property
    def holder(self) -> str:
        """What states the names, for messages."""
        return "`data.classes`" if self.from_recipe else "the backbone"


def find_class_names(
    source: DataSource, model: ModelSource | None, module: "nn.Module | None" = None
) -> ClassNames | None:
    """Find the class names before any data are read.

    Args:
        source: The stanza `data`; its `classes` take precedence.
        model: The backbone's stanza: its `labels`, or what its source knows, come second.
        module: The backbone if it is in memory; else only its configuration is read.

    Returns:
        The names; None if unknown.

    Raises:
        DataError: A model's configuration cannot be read.
        ModelError: A file of labels cannot be read.
    """
    if source.classes:
        return ClassNames(tuple(source.classes))
    if model is None:
        return None
    from .labels import find_model_labels  # which brings torch

    names = find_model_labels(model, module)
    return ClassNames(tuple(names), from_recipe=False) if names else None


def as_integer(label: Any) -> int | None:
    """Return a label as an integer if it is a whole number, a boolean, or a string such as "3" or "3.0"; else None."""
    if isinstance(label, str):
        label = float(label) if _NUMBER.fullmatch(label) else None
    numeric = isinstance(label, bool | np.bool_ | int | float | np.integer | np.floating)
    return int(label) if numeric and abs(label) < _LARGEST and label == label // 1 else None


def sort_class_names(names_in_data: Collection[str], known: ClassNames | None, what: str, note: Note) -> list[str]:
    """Sort the class names that occur in the data by the order of the logits.

    Args:
        names_in_data: The names, without duplicates.
        known: The names that the recipe or the backbone states.
        what: How messages call one of `names_in_data`, such as "class folder".
        note: Receives notes on the order.

    Returns:
        The known names if they contain those of the data; else those of the data, sorted, numerically if all are
        numbers.

    Raises:
        DataError: A name is not a known one, or stands for several classes.
    """
    alphabetical = sorted(names_in_data)
    matched = _match_known(alphabetical, known, what)
    if matched is not None:
        return matched
    ours, numbers = alphabetical, {name: as_integer(name) for name in names_in_data}
    if all(number is not None for number in numbers.values()):
        ours = sorted(ours, key=lambda name: (numbers[name] or 0, name))
        if ours != alphabetical:
            note(f"every {what} is a number: they count as classes in number order, {abbreviate(ours)}")
    _match_by_order(ours, known, what, note)
    return ours


def merge_class_lists(
    labels: Mapping[str, np.ndarray],
    lists: Mapping[str, Sequence[str] | None],
    find_names: Callable[[], ClassNames | None],
    note: Note,
) -> tuple[dict[str, np.ndarray], list[str] | None]:
    """Number the classes of splits that list their names by label, alike in all splits.

    Args:
        labels: int64 (N,) of each split.
        lists: The class names of each split; None where it has none.
        find_names: Finds the names that the recipe or the backbone states.
        note: Receives notes on the order.

    Returns:
        The labels, and the class names in their order: the known names if they contain those of the data; else the list
        itself if all splits have the same; else all names as `sort_class_names` sorts them. Labels remain as they are,
        and the names are None, if a split lists none.

    Raises:
        DataError: A name is not a known one, or stands for several classes.
    """
    given = [each for each in lists.values() if each is not None]
    if len(given) < len(lists):
        return dict(labels), None
    known = find_names()
    spelling = unify_names(set().union(*given), known.names if known else (), "class", note)
    named = {split: [spelling[name] for name in names or ()] for split, names in lists.items()}
    found = list(named.values())
    double = next((name for each in found for name in each if each.count(name) > 1), None)
    if double is not None:
        raise DataError(f"the data call more than one class '{double}'; give every class a name of its own")
    names = found[0]
    if any(each != names for each in found):
        note("the splits number their classes differently; they are matched by name")
        names = sort_class_names(set().union(*found), known, "class", note)
    elif (matched := _match_known(names, known, "class")) is not None:
        names = matched
    else:
        _match_by_order(names, known, "class", note)
    return {split: _renumber(each, named[split], names) for split, each in labels.items()}, names


def _renumber(labels: np.ndarray, names: Sequence[str], order: Sequence[str]) -> np.ndarray:
    """Number classes as in `order`; by position if it lacks some of the names. Labels without a name remain."""
    if not {*names} <= {*order}:
        return labels
    places = np.asarray([order.index(name) for name in names], np.int64)
    named = (labels >= 0) & (labels < len(names))
    return np.where(named, places[np.where(named, labels, 0)], labels)


def _match_known(ours: Sequence[str], known: ClassNames | None, what: str) -> list[str] | None:
    """Return the known names if they contain all of `ours`; None if the backbone calls all otherwise."""
    if known is None:
        return None
    unknown = [name for name in ours if name not in known.names]
    if not unknown:
        _check_unique(ours, known, what)
        return list(known.names)
    if known.from_recipe or len(unknown) < len(ours):
        hint = nearest(unknown[0], known.names)[:200]
        raise DataError(f"{what} '{unknown[0]}' is no class of {known.holder}; {hint}")
    return None


def _match_by_order(ours: Sequence[str], known: ClassNames | None, what: str, note: Note) -> None:
    """Say that classes with other names than the backbone's are matched by order, or refuse another number of them."""
    if known is None:
        return
    if len(ours) != len(known.names):
        raise DataError(
            f"{what} '{ours[0]}' is no class of the backbone, which has {len(known.names)}, among them "
            f"'{known.names[0]}'; call them as the backbone does, or name all classes in `data.classes`"
        )
    note(
        f"the data call no class as the backbone does: matched by order, {what} '{ours[0]}' is the backbone's "
        f"'{known.names[0]}' and '{ours[-1]}' its '{known.names[-1]}'"
    )


def _check_unique(names: Collection[str], known: ClassNames, what: str) -> None:
    duplicate = next((name for name in names if known.names.count(name) > 1), None)
    if duplicate is not None:
        raise DataError(
            f"{what} '{duplicate}' is more than one class of {known.holder}; give every class a name of its own in "
            "`data.classes`"
        )


def abbreviate(names: Sequence[str], most: int = 6) -> str:
    """Join names with commas, if they are many the first ones and the last."""
    shown = names if len(names) <= most else [*names[: most - 2], "...", names[-1]]
    return ", ".join(shown)


def encode_labels(
    labels: Sequence[Any], known: ClassNames | None, where: DescribeLocation, note: Note = lambda line: None
) -> tuple[np.ndarray, list[str] | None]:
    """Encode labels as class numbers; all of them must be names, or all numbers.

    Args:
        labels: Of all samples of all splits, so that all are read alike: strings, numbers or booleans.
        known: The class names, if known; else labels that are names are numbered in alphabetical order.
        where: For messages.
        note: Receives notes on the labels.

    Returns:
        int64 (N,), and the class names in the order of the numbers; None if the labels are numbers.

    Raises:
        DataError: A label is not a class or stands for several, or names and numbers are mixed.
    """
    names = known.names if known is not None else ()
    # blanks around a name are no part of it, unless a known one has them
    labels = [label.strip() if isinstance(label, str) and label not in names else label for label in labels]
    written = {label for label in labels if isinstance(label, str) and label and as_integer(label) is None}
    spelling = unify_names(written, names, "label", note)
    labels = [spelling.get(label, label) if isinstance(label, str) else label for label in labels]
    texts = list(map(str, labels))
    numbers = [as_integer(label) for label in labels]
    number_of = {name: index for index, name in enumerate(names)}
    by_name = all(text in number_of for text in texts)
    by_number = all(number is not None for number in numbers)
    if (
        by_name
        and by_number
        and [number_of[text] for text in texts] != numbers
        and set(numbers) <= set(range(len(names)))
    ):
        note(f"labels such as {texts[0]} could be names or numbers of classes; they are read as names")
    if by_name and known is not None and names:
        _check_unique(sorted(set(texts)), known, "label")
        return np.asarray([number_of[text] for text in texts], np.int64), list(names)
    if by_number:
        return np.asarray(numbers, np.int64), None
    if (
        not names
        and all(number is None for number in numbers)
        and all(isinstance(label, str) and label for label in labels)
    ):
        ours = sort_class_names(set(texts), None, "label", note)
        number_of = {name: index for index, name in enumerate(ours)}
        return np.asarray([number_of[text] for text in texts], np.int64), ours
    raise _explain_labels(labels, numbers, names, where)


def _explain_labels(
    labels: Sequence[Any], numbers: Sequence[int | None], names: Collection[str], where: DescribeLocation
) -> DataError:
    """Return the error for a label that is not a class, or for names mixed with numbers."""
    texts = list(map(str, labels))
    unknown = [i for i, number in enumerate(numbers) if number is None and texts[i] not in names]
    if unknown:
        # first labels that are not even words: null, a list, a fraction, or nothing
        i = min(unknown, key=lambda i: isinstance(labels[i], str) and bool(labels[i]))
        source, position = where(i)
        hint = nearest(texts[i], names)[:200] if names else "name the classes in `data.classes`"
        return DataError(f"{source} has the label '{texts[i]}'{position}, which is no class; {hint}")
    named = next(i for i, text in enumerate(texts) if text in names)
    i = next(i for i, text in enumerate(texts) if text not in names)
    source, position = where(i)
    return DataError(
        f"{source} has the label '{texts[i]}'{position}, a number, and the label '{texts[named]}' elsewhere, which is "
        "the name of a class; give names alone or numbers alone"
    )
