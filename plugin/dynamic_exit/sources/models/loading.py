"""Models that a recipe names, as classifiers with their weights and preprocessing."""

import copy
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...core.placement import check_on_cpu
from ...errors import DynamicExitError, ModelError, first_line, nearest
from ...graph import Classifier, check_objective
from ...onnx.classifier import OnnxClassifier
from ...passes import ModelSource
from .base import BuiltModel, find_builder
from .preprocessing import make_preprocessing
from .weights import load_weights, seeded_generators

logger = logging.getLogger(__name__)


def load_model(
    source: ModelSource,
    names: Sequence[str] | None = None,
    model: nn.Module | None = None,
    seed: int | None = None,
    from_bytes: bool = False,
    note: Callable[[str], None] | None = None,
) -> Classifier:
    """Build a classifier, load its weights and add its preprocessing.

    Args:
        source: The stanza.
        names: Names of the inputs; the model receives those that its ``forward`` takes. A single one for a ``forward``
            that needs one of another name is taken by position. None if there is a single input without a name.
        model: Used as it is, in place of the one that the stanza names.
        seed: Decides the weights that no file provides; None leaves them to torch's own generator.
        from_bytes: Whether pixels are in 0..255.
        note: Receives what is noticed of the model and its weights; None logs it.

    Returns:
        The classifier in evaluation mode; its `untrained` names the weights that no file provides.

    Raises:
        ModelError: It cannot be built, its weights do not fit, it takes other inputs, it is not on the CPU, or it is
            for multi-label classification or regression.
    """
    note = note or log_note
    if model is not None:
        _set_to_evaluation(model, source.name)
        check_objective(model, f"model '{source.name}'")
        check_on_cpu(model, f"model '{source.name}'")
        model = _in_float32(model, source.name, note, copied=True)
        keywords = _select_keywords(source.name, model, names) if names else None
        requested = source.preprocessing != type(source.preprocessing)()
        steps = make_preprocessing(source, model, from_bytes) if requested else None
        return Classifier(model, keywords=keywords, input_names=keywords, preprocessing=steps).eval()
    module, untrained, keyword = _build(source, seed)
    if not isinstance(module, nn.Module):
        raise ModelError(f"model '{source.name}' must be a torch.nn.Module; got {type(module).__name__}")
    _set_to_evaluation(module, source.name)
    check_objective(module, f"model '{source.name}'")
    if source.weights:
        found = load_weights(module, Path(source.weights), source.name, source.weights_key)
        untrained = ()  # a file must hold all weights
        if found:
            note(found)
    module = _in_float32(module, source.name, note)
    check_on_cpu(module, f"model '{source.name}'")
    selected = _select_keywords(source.name, module, names) if names else None
    return Classifier(
        module,
        keywords=selected or ([keyword] if keyword else None),
        input_names=selected,
        preprocessing=make_preprocessing(source, module, from_bytes),
        untrained=untrained,
    )


def _build(source: ModelSource, seed: int | None) -> BuiltModel:
    try:
        with seeded_generators(seed):
            built = find_builder(source).build()
    except DynamicExitError:
        raise
    except Exception as error:  # a constructor may raise anything on wrong arguments, and so may a download
        problem = f"{source.source} model '{source.name}' cannot be built: {first_line(error)}"
        raise ModelError(f"{problem}; check its `arguments`") from error
    if not isinstance(built, BuiltModel):
        raise ModelError(f"model source '{source.source}' must build a BuiltModel; got {type(built).__name__}")
    return built


def _set_to_evaluation(model: nn.Module, name: str) -> None:
    """Set a module to evaluation mode, which modules that were made of others may refuse."""
    if isinstance(model, torch.jit.ScriptModule):
        raise ModelError(
            f"model '{name}' is TorchScript, which cannot be exported; give the module that it was made of"
        )
    try:
        model.eval()
    except Exception as error:  # such as that of modules that torch.export made
        reason = first_line(error).rstrip(".")
        raise ModelError(
            f"model '{name}' refuses evaluation mode: {reason}; give the module that it was made of"
        ) from error


def _in_float32(model: nn.Module, name: str, note: Callable[[str], None], copied: bool = False) -> nn.Module:
    """Bring a model of half or double precision, which inputs do not have, to float32; a given one as a copy."""
    other = {tensor.dtype for tensor in (*model.parameters(), *model.buffers())} & {torch.float16, torch.bfloat16}
    # buffers may be in double precision on purpose
    other |= {tensor.dtype for tensor in model.parameters()} & {torch.float64}
    if not other:
        return model
    kinds = " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in other))
    note(f"model '{name}' is stored in {kinds}; it is used in float32")
    return (copy.deepcopy(model) if copied else model).float()


def log_note(line: str) -> None:
    """Log what was noticed of a model that is not the backbone."""
    logger.info(f"note: {line}")


def has_uint8_images(inputs: Mapping[str, Tensor | np.ndarray]) -> bool:
    """Whether any input is a batch of uint8 images."""
    return any(str(array.dtype).endswith("uint8") and array.ndim == 4 for array in inputs.values())


def _select_keywords(name: str, model: nn.Module, names: Sequence[str]) -> list[str] | None:
    """Return the named inputs that a model takes, in their order; None if it takes a single one by position."""
    if isinstance(model, OnnxClassifier):
        raise ModelError(f"model '{name}' is an ONNX file of one input, the data hold {', '.join(names)}; leave it out")
    parameters = find_input_parameters(model)
    needed = [key for key, parameter in parameters.items() if parameter.default is parameter.empty]
    if len(names) == len(needed) == 1 and names[0] not in parameters:
        return None  # one input for one place: what the data call it does not matter
    for key in needed:
        if key not in names:
            raise ModelError(
                f"model '{name}' needs the input '{key}'; the data hold {', '.join(names)}; rename one of them, and "
                "leave out what is no input"
            )
    signature = inspect.signature(model.forward).parameters.values()
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature)
    keywords = [each for each in names if each in parameters] or [each for each in names if takes_any]
    if not keywords:
        hint = nearest(names[0], parameters)
        raise ModelError(f"model '{name}' takes none of the inputs {', '.join(names)}; {hint}")
    return keywords


def find_input_parameters(model: nn.Module) -> dict[str, inspect.Parameter]:
    """Return the parameters of a model's ``forward`` that stand for one input each, by name."""
    parameters = inspect.signature(model.forward).parameters
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {name: parameter for name, parameter in parameters.items() if parameter.kind not in variadic}
