"""Class names of a model, and how its logits are brought into the backbone's order."""

import json
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from ..errors import ModelError, first_line
from ..passes import ModelSource

#: How models call the class that stands for nothing.
_BACKGROUND = ("background", "__background__", "dummy")
# ImageNet with a background class in front, as TensorFlow's models know it
_WITH_BACKGROUND = (1001, 1000)


def labels_of(source: ModelSource, model: nn.Module) -> list[str] | None:
    """Return a model's class names in the order of its logits.

    Args:
        source: Its `labels`, a list or a file, come first.
        model: The user's module; a Hugging Face model names its classes in its configuration.

    Returns:
        The names, or None where nobody says.

    Raises:
        ModelError: The file cannot be read, or holds something else.
    """
    if isinstance(source.labels, str):
        return _read(Path(source.labels))
    if source.labels is not None:
        return source.labels
    names = getattr(getattr(model, "config", None), "id2label", None)
    if not names or all(name == f"LABEL_{index}" for index, name in names.items()):
        return None
    return [str(names[index]) for index in sorted(names)]


def _read(path: Path) -> list[str]:
    if path.suffix not in (".json", ".txt"):
        raise ModelError(f"labels '{path}' must be a .json or .txt file, or a list in the recipe")
    try:
        text = path.read_text(encoding="utf-8-sig")
        names = json.loads(text) if path.suffix == ".json" else [line.strip() for line in text.strip().splitlines()]
        if isinstance(names, dict):
            names = [names[str(index)] for index in range(len(names))]
    except (OSError, ValueError) as error:
        raise ModelError(f"labels '{path}' cannot be read: {first_line(error)}") from error
    except KeyError as error:
        raise ModelError(f"labels '{path}' have no class {error.args[0]}; number them from 0 without a gap") from error
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ModelError(f"labels '{path}' must be a list of names, or index: name")
    return names


def class_order(
    stage: str, count: int, own: Sequence[str] | None, classes: Sequence[str] | int
) -> tuple[int, ...] | None:
    """Find for each of the backbone's classes the candidate's own index.

    A background class that the backbone does not know is dropped: the first of 1001 where the backbone has 1000, and
    with names the one called so.

    Args:
        stage: Whom a message speaks of.
        count: Logits that the candidate gives.
        own: The candidate's class names in the order of its logits, or None.
        classes: The backbone's class names in the order of its logits, or only how many they are.

    Returns:
        Indices into the candidate's logits, as many as the backbone has classes; None where they are in order.

    Raises:
        ModelError: The candidate has other classes, or names them so that their order cannot be told.
    """
    wanted = classes if isinstance(classes, int) else len(classes)
    names = None if isinstance(classes, int) else list(classes)
    if own is not None and len(own) != count:
        raise ModelError(f"candidate '{stage}' has {count} classes and its `labels` {len(own)}; name each once")
    if own is None:
        kept = list(range(1, count)) if (count, wanted) == _WITH_BACKGROUND else list(range(count))
    else:
        kept = [i for i, name in enumerate(own) if name.lower() not in _BACKGROUND or name in (names or ())]
        if names is None and count == wanted:
            kept = list(range(count))
    if own is not None and names is not None:
        kept = _by_name(stage, own, kept, names)
    if len(kept) != wanted:
        raise ModelError(f"candidate '{stage}' has {count} classes and the backbone {wanted}; use one with {wanted}")
    return None if kept == list(range(count)) else tuple(kept)


def _by_name(stage: str, own: Sequence[str], kept: list[int], names: list[str]) -> list[int]:
    """Sort the kept indices as the backbone names its classes."""
    ours = [own[index] for index in kept]
    if ours == names:
        return kept
    extra = [name for name in ours if name not in set(names)]
    missing = [name for name in names if name not in set(ours)]
    if extra or missing:
        raise ModelError(f"{_difference(stage, ours, names, extra, missing)}; correct its `labels` or leave it out")
    twice = next((name for name in names if max(names.count(name), ours.count(name)) > 1), None)
    if twice is not None:
        raise ModelError(
            f"candidate '{stage}' and the backbone order their classes differently and '{twice}' stands for more than "
            "one; give every class a name of its own"
        )
    place = dict(zip(ours, kept, strict=True))
    return [place[name] for name in names]


def _difference(stage: str, ours: list[str], names: list[str], extra: list[str], missing: list[str]) -> str:
    apart = ((i, a, b) for i, (a, b) in enumerate(zip(ours, names, strict=False)) if a != b)
    index, here, there = next(apart, (0, "", ""))
    if here in extra and there in missing:
        return f"class {index} is '{here}' in candidate '{stage}' and '{there}' in the backbone"
    said = [f"knows '{extra[0]}', which the backbone does not"] if extra else []
    said += [f"does not know '{missing[0]}', which the backbone does"] if missing else []
    return f"candidate '{stage}' {' and '.join(said)}"
