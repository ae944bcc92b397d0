"""Models of timm, by name."""

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from ...errors import ModelError, nearest
from ...passes import ModelKind, ModelSource
from .base import BuiltModel, ModelBuilder, NativePreprocessing


class TimmBuilder(ModelBuilder[ModelSource]):
    """Builds models of timm; they are random unless `arguments` say ``pretrained: true``."""

    knows_untrained = True

    def build(self) -> BuiltModel:
        """Build the model by its name."""
        import timm

        name = self.source.name
        if not timm.is_model(name):
            raise ModelError(f"timm has no model '{name}'; {_suggest(name)}")
        model = timm.create_model(name, **{"pretrained": False, **self.source.arguments})
        if getattr(model, "num_classes", None) == 0:
            raise ModelError(
                f"timm model '{name}' has no classifier: `num_classes` is 0 and it gives features; give the number of "
                "classes"
            )
        return BuiltModel(model, _find_untrained(model, self.source.arguments))

    def read_preprocessing(self, model: nn.Module) -> NativePreprocessing:
        """Return the preprocessing of the pretrained configuration."""
        config: Mapping[str, Any] = getattr(model, "pretrained_cfg", None) or {}
        if "input_size" not in config:
            return super().read_preprocessing(model)
        height, width = config["input_size"][1:]
        return {
            "size": (height, width),
            "interpolation": config.get("interpolation"),
            "mean": config.get("mean"),
            "std": config.get("std"),
            "factor": 1 / 255,
        }

    def find_matches(self) -> tuple[list[str], str]:
        """List the models that match the pattern; with ``pretrained: true`` only those with weights."""
        import timm

        name, only = self.source.name, bool(self.source.arguments.get("pretrained"))
        names = timm.list_models(name, pretrained=only, include_tags="." in name)
        return names, "" if names else _suggest(re.sub(r"[*?\[\]]", "", name))

    def explain_untrained(self) -> str | None:
        """Note that all weights are random, which trials may want; None with ``pretrained: true``."""
        if self.source.arguments.get("pretrained"):
            return None
        return (
            f"the backbone '{self.source.name}' has no trained weights, so that its answers are random; give "
            "`weights`, or `pretrained: true` in its `arguments`"
        )


KIND = ModelKind(ModelSource, TimmBuilder)


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
