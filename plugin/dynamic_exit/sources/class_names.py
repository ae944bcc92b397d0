"""Names of classes: which there are, in what order they stand, and how labels become their numbers."""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from torch import nn

from ..errors import DataError, first_line, nearest
from ..passes import ModelSource
from ..recipe.data import DataSource
from .labels import labels_of

# takes what the user should know, one sentence at a time
Note = Callable[[str], None]
#: Says where a label stands, by its place among all: what it belongs to, and where in there (may be empty).
Where = Callable[[int], tuple[str, str]]

_NUMBER = re.compile(r"\s*[+-]?\d+(\.\d*)?\s*", re.ASCII)
# what is larger counts no classes, and may not fit an int64
_LARGEST = 2**31


@dataclass(frozen=True)
class Known:
    """Names of classes that were told.

    Attributes:
        names: In the order of the logits.
        recipe: Whether `data.classes` tells them, which then must hold every name of the data; else the backbone does.
    """

    names: tuple[str, ...]
    recipe: bool = True

    @property
    def holder(self) -> str:
        """How a message calls what tells them."""
        return "`data.classes`" if self.recipe else "the backbone"


def known_names(source: DataSource, model: ModelSource | None, module: nn.Module | None = None) -> Known | None:
    """Find the names of the classes before any data are read.

    Args:
        source: Its `classes` come first.
        model: The backbone's stanza: its `labels`, or a Hugging Face model's configuration, come next.
        module: The backbone, where it is in memory already; else only its configuration is read.

    Returns:
        The names, or None where nobody tells them.

    Raises:
        DataError: A model's configuration cannot be read.
        ModelError: A file of labels cannot be read.
    """
    if source.classes:
        return Known(tuple(source.classes))
    if model is None:
        return None
    if module is None:
        module = SimpleNamespace(config=_config(model) if model.labels is None else None)
    names = labels_of(model, module)
    return Known(tuple(names), recipe=False) if names else None


def _config(model: ModelSource) -> Any:
    if model.source != "transformers":
        return None
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(model.name)
    except Exception as error:  # the hub and the disk raise classes of their own
        raise DataError(f"the classes of model '{model.name}' cannot be read: {first_line(error)}") from error


def whole_number(label: Any) -> int | None:
    """Return the whole number that a label is: a number, a truth value, or such a text as "3" or "3.0"; else None."""
    if isinstance(label, str):
        label = float(label) if _NUMBER.fullmatch(label) else None
    numeric = isinstance(label, bool | np.bool_ | int | float | np.integer | np.floating)
    return int(label) if numeric and abs(label) < _LARGEST and label == label // 1 else None


def order_names(found: Collection[str], known: Known | None, what: str, note: Note) -> list[str]:
    """Bring the names of classes that data hold into the order of the logits.

    Args:
        found: The names, each once.
        known: Those that were told.
        what: What a message calls one of `found`, such as "class folder".
        note: Takes what the user should know about the order.

    Returns:
        The known names where they hold those of the data; else the found ones, by number where all are numbers.

    Raises:
        DataError: A name is none of the known ones, or more than one of them.
    """
    numbers = {name: whole_number(name) for name in found}
    ours = sorted(found)
    if known is not None:
        strangers = [name for name in ours if name not in known.names]
        if not strangers:
            _refuse_doubles(ours, known, what)
            return list(known.names)
        if known.recipe or len(strangers) < len(ours):
            hint = nearest(strangers[0], known.names)[:200]
            raise DataError(f"{what} '{strangers[0]}' is no class of {known.holder}; {hint}")
    if all(number is not None for number in numbers.values()):
        plain, ours = ours, sorted(ours, key=lambda name: (numbers[name], name))
        if ours != plain:
            note(f"every {what} is a number: they count as classes in number order, {_listed(ours)}")
    if known is not None:
        if len(ours) != len(known.names):
            raise DataError(
                f"{what} '{ours[0]}' is no class of the backbone, which has {len(known.names)}, among them "
                f"'{known.names[0]}'; call them as the backbone does, or name all classes in `data.classes`"
            )
        note(
            f"the data call no class as the backbone does: matched by order, {what} '{ours[0]}' is the backbone's "
            f"'{known.names[0]}' and '{ours[-1]}' its '{known.names[-1]}'"
        )
    return ours


def _refuse_doubles(found: Collection[str], known: Known, what: str) -> None:
    double = next((name for name in found if known.names.count(name) > 1), None)
    if double is not None:
        raise DataError(
            f"{what} '{double}' is more than one class of {known.holder}; give every class a name of its own in "
            "`data.classes`"
        )


def _listed(names: Sequence[str], most: int = 6) -> str:
    """Name a few, the last included."""
    shown = names if len(names) <= most else [*names[: most - 2], "...", names[-1]]
    return ", ".join(shown)


def number_labels(
    labels: Sequence[Any], known: Known | None, where: Where, note: Note = lambda line: None
) -> tuple[np.ndarray, list[str] | None]:
    """Turn the labels of all splits into numbers of classes: all are names, or all are numbers.

    Args:
        labels: Of every sample of every split, so that all are read alike: texts, numbers or truth values.
        known: Names of the classes that were told; without any, labels that are names count in plain order.
        where: For messages.
        note: Takes what the user should know about the labels.

    Returns:
        int64 (N,), and the names of the classes in the order of the numbers; None where the labels are numbers.

    Raises:
        DataError: A label is no class or more than one, or some are names and some are numbers.
    """
    texts, names = list(map(str, labels)), known.names if known is not None else ()
    numbers = [whole_number(label) for label in labels]
    place = {name: index for index, name in enumerate(names)}
    by_name = all(text in place for text in texts)
    by_number = all(number is not None for number in numbers)
    if by_name and by_number and [place[text] for text in texts] != numbers and set(numbers) <= set(range(len(names))):
        note(f"labels such as {texts[0]} could be names or numbers of classes; they are read as names")
    if by_name and names:
        _refuse_doubles(sorted(set(texts)), known, "label")
        return np.asarray([place[text] for text in texts], np.int64), list(names)
    if by_number:
        return np.asarray(numbers, np.int64), None
    if not names and all(number is None for number in numbers) and all(isinstance(label, str) for label in labels):
        ours = order_names(set(texts), None, "label", note)
        place = {name: index for index, name in enumerate(ours)}
        return np.asarray([place[text] for text in texts], np.int64), ours
    raise _mixed(labels, numbers, names, where)


def _mixed(labels: Sequence[Any], numbers: Sequence[int | None], names: Collection[str], where: Where) -> DataError:
    """Say which label is no class, or that names and numbers are mixed."""
    texts = list(map(str, labels))
    strangers = [i for i, number in enumerate(numbers) if number is None and texts[i] not in names]
    if strangers:
        # what is not even a text first: null, a list, a fraction
        i = min(strangers, key=lambda i: isinstance(labels[i], str))
        of, there = where(i)
        hint = nearest(texts[i], names)[:200] if names else "name the classes in `data.classes`"
        return DataError(f"{of} has the label '{texts[i]}'{there}, which is no class; {hint}")
    named = next(i for i, text in enumerate(texts) if text in names)
    i = next(i for i, text in enumerate(texts) if text not in names)
    of, there = where(i)
    return DataError(
        f"{of} has the label '{texts[i]}'{there}, a number, and the label '{texts[named]}' elsewhere, which is the "
        "name of a class; give names alone or numbers alone"
    )
