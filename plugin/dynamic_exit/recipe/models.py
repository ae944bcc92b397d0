"""Where models come from."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from ..errors import ModelError, first_line, nearest
from ..graph import Classifier, Preprocessing
from ..passes import ModelSource
from .own_code import load_function


def load_model(source: ModelSource) -> Classifier:
    """Build a classifier, load its weights and put its preprocessing in front.

    Args:
        source: The stanza.

    Returns:
        The classifier in evaluation mode.

    Raises:
        ModelError: It cannot be built, or its weights do not fit.
    """
    build = {"timm": _build_timm, "transformers": _build_transformers, "python": _build_python}[source.source]
    model = build(source)
    if not isinstance(model, nn.Module):
        raise ModelError(f"model '{source.name}' must be a torch.nn.Module; got {type(model).__name__}")
    if source.weights:
        _load_weights(model, Path(source.weights), source.name)
    model.eval()
    keywords = ["pixel_values"] if source.source == "transformers" else None
    return Classifier(model, keywords=keywords, preprocessing=Preprocessing(**source.preprocessing.model_dump()))


def _build_timm(source: ModelSource) -> nn.Module:
    import timm

    name = source.name
    if not timm.is_model(name):
        close = nearest(name.split(".")[0], timm.list_models()).replace("known are", "its list begins with")[:200]
        raise ModelError(f"timm has no model '{name}'; {close}")
    try:
        return timm.create_model(name, pretrained=False, **source.arguments)
    except Exception as error:  # a constructor may raise anything on wrong arguments
        raise ModelError(f"timm model '{name}' cannot be built: {first_line(error)}; check its `arguments`") from error


def _build_transformers(source: ModelSource) -> nn.Module:
    from transformers import AutoModelForImageClassification

    if Path(source.name).is_absolute() and not Path(source.name).is_dir():
        raise ModelError(f"model folder '{source.name}' does not exist; check the path")
    try:
        return AutoModelForImageClassification.from_pretrained(source.name, **source.arguments)
    except Exception as error:  # the hub, the disk and the constructor all raise classes of their own
        raise ModelError(f"transformers model '{source.name}' cannot be loaded: {first_line(error)}") from error


def _build_python(source: ModelSource) -> nn.Module:
    factory = load_function(source.name)
    try:
        return factory(**source.arguments)
    except Exception as error:  # own code may raise anything
        raise ModelError(
            f"model '{source.name}' cannot be built: {first_line(error)}; check its `arguments`"
        ) from error


def _load_weights(model: nn.Module, path: Path, name: str) -> None:
    if not path.is_file():
        raise ModelError(f"weights '{path}' do not exist; check the path")
    try:
        if path.suffix == ".safetensors":
            state = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each reader raises classes of its own
        if "weights_only" in str(error):  # torch advises to load such a file unsafely
            said = "are no torch file of plain tensors; save the model's state_dict"
            raise ModelError(f"weights '{path}' {said}") from None
        raise ModelError(f"weights '{path}' cannot be read: {first_line(error)}") from error
    state = state.get("state_dict", state) if isinstance(state, Mapping) else {}
    state = {key.removeprefix("module."): value for key, value in state.items()}
    wanted = model.state_dict()
    for key in [*wanted, *state]:
        if key not in state and key.endswith(".num_batches_tracked"):
            continue  # files of torch before 0.4.1 have none, and torch loads them
        here = tuple(wanted[key].shape) if key in wanted else None
        there = tuple(state[key].shape) if key in state else None
        if here != there:
            said = f"'{key}' is {_shape(there)} in the file and {_shape(here)} in the model"
            raise ModelError(f"weights '{path}' do not fit model '{name}': {said}; check its `arguments`")
    model.load_state_dict(state)


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else str(list(shape))


def expand_candidates(sources: Sequence[ModelSource]) -> list[ModelSource]:
    """Replace every pattern by the models that it matches.

    Args:
        sources: Candidates as the recipe names them.

    Returns:
        One source for each model, in order.
    """
    return list(sources)


def load_candidate(source: ModelSource, classes: Sequence[str] | int, example: tuple[Tensor, ...]) -> Classifier:
    """Load a candidate and bring its classes into the backbone's order.

    Args:
        source: One model, no pattern.
        classes: The backbone's class names in the order of its logits, or only how many they are.
        example: Inputs of at least two samples, as the backbone takes them.

    Returns:
        The classifier in evaluation mode; its logits are (N, C) in the backbone's order.

    Raises:
        ModelError: It does not load, refuses the example, gives NaN, or has other classes.
    """
    candidate = load_model(source)
    wanted = classes if isinstance(classes, int) else len(classes)
    found = answer_of(f"candidate '{source.stage_name}'", candidate, example).shape[1]
    if found != wanted:
        raise ModelError(
            f"candidate '{source.stage_name}' has {found} classes and the backbone {wanted}; use one with {wanted}"
        )
    return candidate


def answer_of(name: str, classifier: Classifier, example: tuple[Tensor, ...]) -> Tensor:
    """Return a classifier's logits for an example, or say what is wrong with them.

    Args:
        name: Whom a message speaks of.
        classifier: What is run.
        example: Inputs, each (N, ...).

    Returns:
        (N, C), finite.

    Raises:
        ModelError: It refuses the example, or gives no finite logits.
    """
    try:
        with torch.no_grad():
            logits = classifier(*example)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        shape = list(example[0].shape)
        raise ModelError(
            f"{name} refuses inputs of shape {shape}: {first_line(error)}; set its `preprocessing`"
        ) from error
    if logits.dim() != 2:
        raise ModelError(f"{name} must give logits (N, C); got the shape {list(logits.shape)}")
    if not torch.isfinite(logits).all():
        raise ModelError(f"{name} gives NaN or infinite logits; check its weights and preprocessing")
    return logits
