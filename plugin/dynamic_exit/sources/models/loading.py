"""Where models come from."""

import fnmatch
import glob
import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...core.user_code import function_names
from ...errors import ModelError, RecipeError, first_line, nearest
from ...graph import Classifier, answer_without_sigmoid, check_objective
from ...onnx.classifier import OnnxClassifier
from ...passes import ModelSource
from ..labels import class_order, labels_of
from .builders import build_model, nearest_timm
from .preprocessing import preprocessing_of
from .weights import load_weights, random_numbers


def load_model(
    source: ModelSource,
    names: Sequence[str] | None = None,
    model: nn.Module | None = None,
    seed: int | None = None,
    from_bytes: bool = False,
) -> Classifier:
    """Build a classifier, load its weights and put its preprocessing in front.

    Args:
        source: The stanza.
        names: Of the inputs, of which the model gets those that its ``forward`` takes by these names; None where there
            is one without a name.
        model: Used as it is, in place of the one that the stanza names.
        seed: Decides what weights are that no file gives; None leaves them to torch's own generator.
        from_bytes: Whether images come as bytes.

    Returns:
        The classifier in evaluation mode; its `untrained` names the weights that no file gave.

    Raises:
        ModelError: It cannot be built, its weights do not fit, it takes other inputs, or it is for multi-label
            classification or regression.
    """
    if model is not None:
        check_objective(model, f"model '{source.name}'")
        keywords = None if names is None else _keywords(source.name, model, names)
        asked = source.preprocessing != type(source.preprocessing)()
        steps = preprocessing_of(source, model, from_bytes) if asked else None
        return Classifier(model, keywords=keywords, input_names=keywords, preprocessing=steps).eval()
    with random_numbers(seed):
        model, untrained = build_model(source)
    if not isinstance(model, nn.Module):
        raise ModelError(f"model '{source.name}' must be a torch.nn.Module; got {type(model).__name__}")
    check_objective(model, f"model '{source.name}'")
    if source.weights:
        load_weights(model, Path(source.weights), source.name)
        untrained = ()  # a file must hold them all
    model.eval()
    if names is not None:
        keywords = _keywords(source.name, model, names)
    else:
        keywords = [model.main_input_name] if source.source == "transformers" else None
    preprocessing = preprocessing_of(source, model, from_bytes)
    return Classifier(
        model, keywords=keywords, input_names=names and keywords, preprocessing=preprocessing, untrained=untrained
    )


def has_bytes(inputs: Mapping[str, Tensor | np.ndarray]) -> bool:
    """Whether images come as bytes."""
    return any(str(each.dtype).endswith("uint8") and each.ndim == 4 for each in inputs.values())


def _keywords(name: str, model: nn.Module, names: Sequence[str]) -> list[str]:
    """Return those of the named inputs that a model takes."""
    if isinstance(model, OnnxClassifier):
        raise ModelError(f"model '{name}' is an ONNX file of one input, the data hold {', '.join(names)}; leave it out")
    known = input_parameters(model)
    for key, parameter in known.items():
        if parameter.default is parameter.empty and key not in names:
            raise ModelError(f"model '{name}' needs the input '{key}'; the data hold {', '.join(names)}")
    anything = any(each.kind is each.VAR_KEYWORD for each in inspect.signature(model.forward).parameters.values())
    taken = [each for each in names if each in known] or [each for each in names if anything]
    if not taken:
        raise ModelError(f"model '{name}' takes none of the inputs {', '.join(names)}; {nearest(names[0], known)}")
    return taken


def input_parameters(model: nn.Module) -> dict[str, inspect.Parameter]:
    """Return the parameters of a model's ``forward`` that stand for one input each, by name."""
    parameters = inspect.signature(model.forward).parameters
    many = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {name: each for name, each in parameters.items() if each.kind not in many}


def expand_candidates(sources: Sequence[ModelSource]) -> list[ModelSource]:
    """Replace every pattern by the models that it matches.

    Args:
        sources: Candidates as the recipe names them.

    Returns:
        One source for each model: in the order of the recipe, those of one pattern in natural order; twice the same
        counts once. ``{name}`` in the weights of a pattern has become the model's name.

    Raises:
        RecipeError: A pattern matches nothing or has a `stage`, or two candidates come to the same name.
    """
    found: dict[str, tuple[ModelSource, str]] = {}
    for source in sources:
        for each in _matches(source):
            name = each.stage_name
            if name == "final":
                raise RecipeError(
                    f"candidate '{each.name}' is called 'final', the backbone's own name; give it another `stage`"
                )
            if name in found and found[name][0] != each:
                raise RecipeError(
                    f"candidates '{found[name][1]}' and '{source.name}' both give a stage '{name}'; give one of them "
                    "another `stage`, without a pattern"
                )
            found.setdefault(name, (each, source.name))
    return [each for each, _ in found.values()]


def _matches(source: ModelSource) -> list[ModelSource]:
    place, _, last = source.name.rpartition(":")
    if not re.search(r"[*?\[]", last if source.source == "python" else source.name) or Path(source.name).exists():
        return [source]
    if source.stage is not None:
        raise RecipeError(f"candidate '{source.name}' is a pattern and cannot be one `stage`; remove '{source.stage}'")
    if source.source == "timm":
        import timm

        only = bool(source.arguments.get("pretrained"))
        names = timm.list_models(source.name, pretrained=only, include_tags="." in source.name)
        hint = "" if names else nearest_timm(re.sub(r"[*?\[\]]", "", source.name))
    elif source.source == "python":
        known = [f"{place}:{name}" for name in function_names(place)]
        names = fnmatch.filter(known, source.name)
        hint = nearest(source.name, known)
    else:
        kept = Path.is_dir if source.source == "transformers" else Path.is_file
        names = [path for path in glob.glob(source.name) if kept(Path(path))]
        siblings = glob.glob(f"{glob.escape(str(Path(source.name).parent))}/*")
        hint = nearest(source.name, siblings) if siblings else "check the folder"
    if not names:
        raise RecipeError(f"pattern '{source.name}' matches no {source.source} model; {hint}")
    return [source.model_copy(update=_named(source, name)) for name in sorted(names, key=_natural)]


def _named(source: ModelSource, name: str) -> dict[str, str | None]:
    short = source.model_copy(update={"name": name}).stage_name
    return {"name": name, "weights": source.weights and source.weights.replace("{name}", short)}


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key by which 'net9' comes before 'net10'."""
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
        source: One model, no pattern.
        classes: The backbone's class names in the order of its logits, or only how many they are.
        example: Inputs of at least two samples by name, as the backbone takes them.
        by_name: Hand the candidate those inputs that it takes by these names; else the only one by position.
        seed: As for `load_model`.
        served: Names that stand for `classes` where that is a number and the candidate calls its classes just so.

    Returns:
        The classifier in evaluation mode; its logits are (N, C) in the backbone's order, and its `untrained` names the
        weights that no file gave.

    Raises:
        ModelError: It does not load, refuses the example, gives NaN or probabilities, or has other classes.
    """
    candidate = load_model(source, list(example) if by_name else None, seed=seed, from_bytes=has_bytes(example))
    name = f"candidate '{source.stage_name}'"
    inputs = candidate.select(example)
    if isinstance(candidate.model, OnnxClassifier):
        with torch.no_grad():
            candidate.model.check(*map(candidate.preprocessing, inputs))
    logits = answer_of(name, candidate, inputs)
    if logits.shape[1] > 1 and (logits >= 0).all() and torch.allclose(logits.float().sum(1), torch.ones(1)):
        raise ModelError(f"{name} gives probabilities where logits are wanted; leave its softmax out")
    own = labels_of(source, candidate.model)
    if isinstance(classes, int) and sorted(own or ()) == sorted(served):
        classes = served or classes
    order = class_order(source.stage_name, logits.shape[1], own, classes)
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


def answer_of(name: str, classifier: Classifier, example: tuple[Tensor, ...]) -> Tensor:
    """Return a classifier's logits for an example, or say what is wrong with them.

    Args:
        name: Whom a message speaks of.
        classifier: What is run.
        example: Inputs, each (N, ...).

    Returns:
        (N, C), finite.

    Raises:
        ModelError: It refuses the example, gives no finite logits, or ends in a sigmoid.
    """
    try:
        logits = answer_without_sigmoid(classifier, example, name)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        shapes = " and ".join(str(list(tensor.shape)) for tensor in example)
        hint = "set `data.text.max_length`" if classifier.input_names else "set its `preprocessing`"
        raise ModelError(f"{name} refuses inputs of shape {shapes}: {first_line(error)}; {hint}") from error
    if logits.dim() != 2:
        raise ModelError(f"{name} must give logits (N, C); got the shape {list(logits.shape)}")
    if not torch.isfinite(logits).all():
        raise ModelError(f"{name} gives NaN or infinite logits; check its weights and preprocessing")
    return logits
