"""Models of timm, by name."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ...errors import ModelError, first_line, nearest
from ...passes import ModelKind, ModelSource
from .base import BuiltModel, ModelBuilder, NativePreprocessing
from .origin import Origin, read_origin

# what the name of one model with its weights begins with, and that of a model of timm on the hub
_LOCAL, _HUB_OWNER = "local-dir:", "timm/"
_WITH_WEIGHTS = (_LOCAL, "hf-hub:", "hf_hub:")


class TimmBuilder(ModelBuilder[ModelSource]):
    """Builds models of timm; they are random unless `arguments` say ``pretrained: true`` or the name is of one model.

    ``hf-hub:owner/name`` and ``local-dir:folder`` come with weights; ``timm/name`` is what the hub calls ``name``.
    """

    knows_untrained = True

    @property
    def _arguments(self) -> dict[str, Any]:
        return {"pretrained": self.source.name.startswith(_WITH_WEIGHTS), **self.source.arguments}

    def build(self) -> BuiltModel:
        """Build the model by its name."""
        import timm
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

        name = self.source.name
        folder = name.removeprefix(_LOCAL)
        if folder != name and not Path(folder).is_dir():
            raise ModelError(f"model folder '{folder}' does not exist; check the path")
        known = name.removeprefix(_HUB_OWNER)
        if not name.startswith(_WITH_WEIGHTS) and not timm.is_model(known):
            raise ModelError(f"timm has no model '{name}'; {_suggest(known)}")
        try:
            model = timm.create_model(known, **self._arguments)
        except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
            reason = f"timm model '{name}' cannot be had from the hub: {first_line(error).rstrip('.')}"
            remedy = "check the name and the connection, or give a folder as `local-dir:folder`"
            raise ModelError(f"{reason}; {remedy}") from error
        if getattr(model, "num_classes", None) == 0:
            raise ModelError(
                f"timm model '{name}' has no classifier: `num_classes` is 0 and it gives features; give the number of "
                "classes"
            )
        return BuiltModel(model, _find_untrained(model, self._arguments))

    def read_preprocessing(self, model: nn.Module) -> NativePreprocessing:
        """Return the preprocessing of the pretrained configuration."""
        config: Mapping[str, Any] = getattr(model, "pretrained_cfg", None) or {}
        if "input_size" not in config:
            return super().read_preprocessing(model)
        height, width = config["input_size"][1:]
        return {
            "size": (height, width),
            "resized": _resized(config, min(height, width)),
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
        if self._arguments.get("pretrained"):
            return None
        return (
            f"the backbone '{self.source.name}' has no trained weights, so that its answers are random; give "
            "`weights`, or `pretrained: true` in its `arguments`"
        )

    def find_origin(self) -> Origin:
        """Return the name on the hub and the licence of the pretrained configuration, or of the model's card."""
        import timm

        name = self.source.name
        if name.startswith(_WITH_WEIGHTS):
            return read_origin(re.sub(r"^(local-dir|hf[-_]hub):", "", name))
        config = timm.get_pretrained_cfg(name.removeprefix(_HUB_OWNER))
        if config is None or not self._arguments.get("pretrained"):
            return Origin()
        return Origin(license=config.license or "", base_model=str(config.hf_hub_id or ""))


KIND = ModelKind(ModelSource, TimmBuilder)


def _resized(config: Mapping[str, Any], side: int) -> int | None:
    """Return the length of the shorter side before timm cuts off what is outside of the middle."""
    return None if config.get("crop_mode") == "squash" else math.floor(side / (config.get("crop_pct") or 0.875))


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
