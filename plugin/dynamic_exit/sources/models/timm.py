"""Models of timm, by name."""

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from ...errors import ModelError, first_line, nearest
from ...passes import ModelSource
from .base import BuiltModel, ModelBuilder, NativePreprocessing, unknown_preprocessing


class TimmBuilder(ModelBuilder):
    """Builds models of timm; they are random unless `arguments` say ``pretrained: true``."""

    def build(self, source: ModelSource) -> BuiltModel:
        """Build a model by its name."""
        import timm

        name = source.name
        if not timm.is_model(name):
            raise ModelError(f"timm has no model '{name}'; {_suggest(name)}")
        try:
            model = timm.create_model(name, **{"pretrained": False, **source.arguments})
        except Exception as error:  # a constructor may raise anything on wrong arguments, and so may a download
            reason = first_line(error)
            raise ModelError(f"timm model '{name}' cannot be built: {reason}; check its `arguments`") from error
        if getattr(model, "num_classes", None) == 0:
            raise ModelError(
                f"timm model '{name}' has no classifier: `num_classes` is 0 and it gives features; give the number of "
                "classes"
            )
        return BuiltModel(model, _find_untrained(model, source.arguments))

    def read_preprocessing(self, source: ModelSource, model: nn.Module) -> NativePreprocessing:
        """Return the preprocessing of the pretrained configuration."""
        config: Mapping[str, Any] = getattr(model, "pretrained_cfg", None) or {}
        if "input_size" not in config:
            raise unknown_preprocessing(source)
        height, width = config["input_size"][1:]
        return {
            "size": (height, width),
            "interpolation": config.get("interpolation"),
            "mean": config.get("mean"),
            "std": config.get("std"),
            "factor": 1 / 255,
        }

    def find_matches(self, source: ModelSource) -> tuple[list[str], str]:
        """List the models that match a pattern; with ``pretrained: true`` only those with weights."""
        import timm

        only = bool(source.arguments.get("pretrained"))
        names = timm.list_models(source.name, pretrained=only, include_tags="." in source.name)
        return names, "" if names else _suggest(re.sub(r"[*?\[\]]", "", source.name))


def _find_untrained(model: nn.Module, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the random weights: all without a checkpoint, the classifier's if the checkpoint has other classes."""
    if arguments.get("checkpoint_path"):
        return ()
    names = [name for name, _ in model.named_parameters()]
    if not arguments.get("pretrained"):
        return tuple(names)
    config: Mapping[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    if getattr(model, "num_classes", None) == config.get("num_classes"):
        return ()
    heads = config.get("classifier") or ()
    prefixes = [f"{head}." for head in ([heads] if isinstance(heads, str) else heads)]
    return tuple(name for name in names if name.startswith(tuple(prefixes)))


def _suggest(name: str) -> str:
    import timm

    return nearest(name.split(".")[0], timm.list_models()).replace("known are", "its list begins with")[:200]
