"""Candidates for savers: patterns of names, and models with the backbone's classes."""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ...errors import RecipeError
from ...graph import Classifier, check_logits, with_two_logits
from ...onnx.classifier import OnnxClassifier
from ...passes import ModelSource
from ..labels import find_class_order, find_model_labels
from .base import find_builder
from .loading import has_uint8_images, load_model, log_note


def expand_candidates(sources: Sequence[ModelSource]) -> list[ModelSource]:
    """Replace every pattern by the models that match it.

    Args:
        sources: Candidates as the recipe names them.

    Returns:
        One source per model, without duplicates: in the order of the recipe, the models of one pattern in natural
        order. ``{name}`` in the weights of a pattern is replaced by the model's name.

    Raises:
        RecipeError: A pattern matches nothing or has a `stage`, or two candidates have the same name.
    """
    expanded: dict[str, tuple[ModelSource, str]] = {}
    for source in sources:
        for match in _expand(source):
            name = match.stage_name
            if name == "final":
                raise RecipeError(
                    f"candidate '{match.name}' is called 'final', the backbone's own name; give it another `stage`"
                )
            if name in expanded and expanded[name][0] != match:
                raise RecipeError(
                    f"candidates '{expanded[name][1]}' and '{source.name}' both give a stage '{name}'; give one of "
                    "them another `stage`, without a pattern"
                )
            expanded.setdefault(name, (match, source.name))
    return [match for match, _ in expanded.values()]


def _expand(source: ModelSource) -> list[ModelSource]:
    builder = find_builder(source)
    if not builder.is_pattern():
        return [source]
    if source.stage is not None:
        raise RecipeError(f"candidate '{source.name}' is a pattern and cannot be one `stage`; remove '{source.stage}'")
    names, hint = builder.find_matches()
    if not names:
        raise RecipeError(f"pattern '{source.name}' matches no {source.source} model; {hint}")
    return [source.model_copy(update=_rename(source, name)) for name in sorted(names, key=_natural_order)]


def _rename(source: ModelSource, name: str) -> dict[str, str | None]:
    short = source.model_copy(update={"name": name}).stage_name
    return {"name": name, "weights": source.weights and source.weights.replace("{name}", short)}


def _natural_order(name: str) -> list[tuple[int, str]]:
    """Sort key that puts 'net9' before 'net10'."""
    return [(int(part or 0), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def load_candidate(
    source: ModelSource,
    classes: Sequence[str] | int,
    example: Mapping[str, Tensor],
    by_name: bool = False,
    seed: int | None = None,
    served: Sequence[str] = (),
) -> Classifier:
    """Load a candidate and bring its classes into the backbone's order.

    Args:
        source: One model, not a pattern.
        classes: The backbone's class names in the order of its logits, or only their number.
        example: Inputs of at least two samples by name, as the backbone takes them.
        by_name: Whether the candidate receives the inputs that it takes by these names; else the only one by position.
        seed: As for `load_model`.
        served: Class names to use in place of `classes` if that is a number and the candidate has the same names.

    Returns:
        The classifier in evaluation mode; its logits are (N, C) in the backbone's order, and its `untrained` names the
        weights that no file provides.

    Raises:
        ModelError: It cannot be loaded, refuses the example, gives NaN or probabilities, or has other classes.
    """
    inputs_by_name = list(example) if by_name else None
    candidate = load_model(source, inputs_by_name, seed=seed, from_bytes=has_uint8_images(example))
    name = f"candidate '{source.stage_name}'"
    inputs = candidate.select(example)
    if isinstance(candidate.model, OnnxClassifier):
        with torch.no_grad():
            steps = candidate.preprocessing
            candidate.model.check(*(steps(tensor) if steps is not None else tensor for tensor in inputs))
    candidate = with_two_logits(candidate, inputs, name, log_note)
    logits = check_logits(name, candidate, inputs)
    own = find_model_labels(source, candidate.model)
    if isinstance(classes, int) and sorted(own or ()) == sorted(served):
        classes = served or classes
    order = find_class_order(source.stage_name, logits.shape[1], own, classes)
    if order is None:
        return candidate
    return Classifier(
        candidate.model,
        keywords=candidate.keywords,
        input_names=candidate.input_names,
        preprocessing=candidate.preprocessing,
        class_order=order,
        untrained=candidate.untrained,
    )
