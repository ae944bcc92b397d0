"""Class names of a model, and the order of its logits relative to the backbone's."""

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from ..errors import ModelError, first_line
from ..passes import ModelSource
from .models.base import find_builder

# names of the class that stands for none of the others
_BACKGROUND = ("background", "__background__", "dummy")
# number of classes of ImageNet with a background class first, as in TensorFlow's models, and without it
_WITH_BACKGROUND = (1001, 1000)


def find_model_labels(source: ModelSource, model: nn.Module | None) -> list[str] | None:
    """Return a model's class names in the order of its logits.

    Args:
        source: The stanza; its `labels`, a list or a file, take precedence over what the model's source knows.
        model: The user's module; None if it is not loaded.

    Returns:
        The names; None if unknown.

    Raises:
        DataError: The model's configuration cannot be read.
        ModelError: The file cannot be read or does not hold a list of names.
    """
    if isinstance(source.labels, str):
        return _read(Path(source.labels))
    return find_builder(source).find_class_names(model) if source.labels is None else source.labels


def _read(path: Path) -> list[str]:
    if path.suffix not in (".json", ".txt"):
        raise ModelError(f"labels '{path}' must be a .json or .txt file, or a list in the recipe")
    try:
        text = path.read_text(encoding="utf-8-sig")
        names = json.loads(text) if path.suffix == ".json" else [line.strip() for line in text.strip().splitlines()]
        if isinstance(names, dict):
            names = [names[str(index)] for index in range(len(names))]
    except FileNotFoundError as error:
        raise ModelError(f"labels '{path}' do not exist; check the path") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"labels '{path}' cannot be read: {first_line(error)}") from error
    except KeyError as error:
        raise ModelError(f"labels '{path}' have no class {error.args[0]}; number them from 0 without a gap") from error
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ModelError(f"labels '{path}' must be a list of names, or index: name")
    return names


def find_class_order(
    stage: str, count: int, own: Sequence[str] | None, classes: Sequence[str] | int
) -> tuple[int, ...] | None:
    """Find, for each of the backbone's classes, its index in the candidate's logits.

    A background class that the backbone lacks is dropped: by its name, or without names the first of 1001 classes if
    the backbone has 1000.

    Args:
        stage: Name of the candidate, for messages.
        count: Number of the candidate's logits.
        own: The candidate's class names in the order of its logits, or None.
        classes: The backbone's class names in the order of its logits, or only their number.

    Returns:
        One index per class of the backbone; None if the orders are the same.

    Raises:
        ModelError: The candidate has other classes, or its names do not determine the order.
    """
    expected = classes if isinstance(classes, int) else len(classes)
    names = None if isinstance(classes, int) else list(classes)
    if own is not None and len(own) != count:
        raise ModelError(f"candidate '{stage}' has {count} classes and its `labels` {len(own)}; name each once")
    if own is None:
        kept = list(range(1, count)) if (count, expected) == _WITH_BACKGROUND else list(range(count))
    else:
        kept = [i for i, name in enumerate(own) if name.lower() not in _BACKGROUND or name in (names or ())]
        if names is None and count == expected:
            kept = list(range(count))
    if own is not None and names is not None:
        kept = _by_name(stage, own, kept, names)
    if len(kept) != expected:
        raise ModelError(
            f"candidate '{stage}' has {count} classes and the backbone {expected}; use one with {expected}"
        )
    return None if kept == list(range(count)) else tuple(kept)


def _by_name(stage: str, own: Sequence[str], kept: list[int], names: list[str]) -> list[int]:
    """Sort the indices in `kept` by the backbone's order of class names."""
    # one name may be written in several forms of Unicode
    ours = [unicodedata.normalize("NFC", own[index]) for index in kept]
    names = [unicodedata.normalize("NFC", name) for name in names]
    if ours == names:
        return kept
    extra = [name for name in ours if name not in set(names)]
    missing = [name for name in names if name not in set(ours)]
    if extra or missing:
        raise ModelError(f"{_difference(stage, ours, names, extra, missing)}; correct its `labels` or leave it out")
    duplicate = next((name for name in names if max(names.count(name), ours.count(name)) > 1), None)
    if duplicate is not None:
        raise ModelError(
            f"candidate '{stage}' and the backbone order their classes differently and '{duplicate}' stands for more "
            "than one; give every class a name of its own"
        )
    index_of = dict(zip(ours, kept, strict=True))
    return [index_of[name] for name in names]


def _difference(stage: str, ours: list[str], names: list[str], extra: list[str], missing: list[str]) -> str:
    differences = ((i, a, b) for i, (a, b) in enumerate(zip(ours, names, strict=False)) if a != b)
    index, here, there = next(differences, (0, "", ""))
    if here in extra and there in missing:
        return f"class {index} is '{here}' in candidate '{stage}' and '{there}' in the backbone"
    clauses = [f"knows '{extra[0]}', which the backbone does not"] if extra else []
    clauses += [f"does not know '{missing[0]}', which the backbone does"] if missing else []
    return f"candidate '{stage}' {' and '.join(clauses)}"
