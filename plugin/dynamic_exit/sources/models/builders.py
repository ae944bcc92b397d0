"""What builds a model of each source, and says which of its weights are random."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from ...core.user_code import load_function
from ...errors import ModelError, first_line, nearest
from ...graph import check_configuration
from ...onnx.classifier import import_onnx
from ...passes import ModelSource

#: A model, and the names of those of its weights that are random as far as its source can tell.
Built = tuple[nn.Module, tuple[str, ...]]


def build_model(source: ModelSource) -> Built:
    """Build a model without the `weights` of its stanza.

    Args:
        source: The stanza.

    Returns:
        The module, and the names of its weights that no file gave; of own code nothing is known, and none is named.

    Raises:
        ModelError: It cannot be built.
    """
    return _BUILD[source.source](source)


def _build_timm(source: ModelSource) -> Built:
    import timm

    name = source.name
    if not timm.is_model(name):
        raise ModelError(f"timm has no model '{name}'; {nearest_timm(name)}")
    try:
        model = timm.create_model(name, **{"pretrained": False, **source.arguments})
    except Exception as error:  # a constructor may raise anything on wrong arguments, and so may a download
        raise ModelError(f"timm model '{name}' cannot be built: {first_line(error)}; check its `arguments`") from error
    if getattr(model, "num_classes", None) == 0:
        said = "has no classifier: `num_classes` is 0 and it gives features; give the number of classes"
        raise ModelError(f"timm model '{name}' {said}")
    return model, _random_of_timm(model, source.arguments)


def _random_of_timm(model: nn.Module, arguments: dict[str, Any]) -> tuple[str, ...]:
    """Name what timm leaves random: all without a file, the classifier where the file's has other classes."""
    if arguments.get("checkpoint_path"):
        return ()
    names = [name for name, _ in model.named_parameters()]
    if not arguments.get("pretrained"):
        return tuple(names)
    made_for = getattr(model, "pretrained_cfg", None) or {}
    if getattr(model, "num_classes", None) == made_for.get("num_classes"):
        return ()
    heads = made_for.get("classifier") or ()
    heads = [f"{head}." for head in ([heads] if isinstance(heads, str) else heads)]
    return tuple(name for name in names if name.startswith(tuple(heads)))


def nearest_timm(name: str) -> str:
    """Return a hint for a name that timm does not know."""
    import timm

    return nearest(name.split(".")[0], timm.list_models()).replace("known are", "its list begins with")[:200]


def _build_transformers(source: ModelSource) -> Built:
    import transformers

    if Path(source.name).is_absolute() and not Path(source.name).is_dir():
        raise ModelError(f"model folder '{source.name}' does not exist; check the path")
    try:
        config = transformers.AutoConfig.from_pretrained(source.name)
        loader = getattr(transformers, _auto_class(config)).from_pretrained
        model, found = loader(source.name, **{**source.arguments, "output_loading_info": True})
    except Exception as error:  # the hub, the disk and the constructor all raise classes of their own
        raise ModelError(f"transformers model '{source.name}' cannot be loaded: {first_line(error)}") from error
    return model, tuple(sorted({*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])}))


def check_source(source: ModelSource) -> None:
    """Refuse what a Hugging Face model's configuration says cannot be a backbone, before anything else is read.

    Raises:
        ModelError: It is for multi-label classification or regression.
    """
    if source.source != "transformers":
        return
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source.name)
    except Exception:  # whoever loads the model says what is wrong
        return
    for key in ("num_labels", "problem_type"):
        if key in source.arguments:
            setattr(config, key, source.arguments[key])
    check_configuration(config, f"model '{source.name}'")


def _auto_class(config: Any) -> str:
    """Say what a Hugging Face model classifies: as it was saved, else the first that its family can."""
    from transformers.models.auto import modeling_auto as known

    families = {
        "ImageClassification": known.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
        "SequenceClassification": known.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    }
    saved = " ".join(config.architectures or ())
    fitting = [task for task in families if f"For{task}" in saved]
    fitting += [task for task, family in families.items() if config.model_type in family]
    return f"AutoModelFor{(fitting or list(families))[0]}"


def _build_python(source: ModelSource) -> Built:
    factory = load_function(source.name)
    try:
        return factory(**source.arguments), ()
    except Exception as error:  # own code may raise anything
        raise ModelError(
            f"model '{source.name}' cannot be built: {first_line(error)}; check its `arguments`"
        ) from error


def _build_onnx(source: ModelSource) -> Built:
    return import_onnx(source.name), ()


_BUILD: dict[str, Callable[[ModelSource], Built]] = {
    "timm": _build_timm,
    "transformers": _build_transformers,
    "python": _build_python,
    "onnx": _build_onnx,
}
