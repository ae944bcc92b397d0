"""The passes on a model in memory, as Neural Compressor calls them: no labels, inputs from its calibration function."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import PassError, nearest
from ...graph import Classifier
from ...passes import Samples, apply_static, registered_passes
from ...passes.pruning import prune
from ...runtime.model import DynamicExitModel
from .calibration import CalibrationCalls
from .configs import PassConfig
from .in_memory import make_dynamic_model


def pruning(model: nn.Module, config: PassConfig, calls: CalibrationCalls | None, example_inputs: Any) -> nn.Module:
    """Return a pruned copy, fine-tuned on calibration inputs, where there are some, to answer as the model itself."""
    named, train, keywords = isinstance(example_inputs, Mapping), None, None
    inputs = example_inputs.values() if named else example_inputs
    inputs = (inputs,) if isinstance(inputs, Tensor) else inputs
    if calls is not None or inputs is None:
        fed, keywords = needed("pruning", calls).inputs("pruning")
        train = (*fed, torch.full((len(fed[0]),), -1))
        inputs = tuple(each[:2] for each in fed)
    elif named:
        keywords = tuple(example_inputs)
    ratios = {}
    for key, local in config.local_config.items():
        names = [name for name, module in model.named_modules() if name and _stands_for(key, name, module)]
        if not names:
            known = [name for name, _ in model.named_modules() if name]
            raise PassError(f"pass 'pruning' finds no module '{key}'; {nearest(key, known)}")
        if local.ratio is None:
            raise PassError(f"pass 'pruning' has `target_cost` for '{key}', but it counts the whole model; set `ratio`")
        ratios |= dict.fromkeys(names, local.ratio)
    return prune(Classifier(model, keywords=keywords), tuple(inputs), config.stanza, train, ratios=ratios).model


def _stands_for(key: str, name: str, module: nn.Module) -> bool:
    return name == key or name.startswith(f"{key}.") or type(module).__name__ == key or bool(re.fullmatch(key, name))


def tiny_saver(
    model: nn.Module, config: PassConfig, calls: CalibrationCalls | None, example_inputs: Any
) -> DynamicExitModel:
    """Return the model behind the savers that pay off, in float, tuned to agree with it."""
    return make_dynamic_model("tiny_saver", model, needed("tiny_saver", calls), savers=config.stanza)


def early_exit(
    model: nn.Module, config: PassConfig, calls: CalibrationCalls | None, example_inputs: Any
) -> DynamicExitModel:
    """Return the model with exits, trained on one half of the calibration inputs and tuned on the other."""
    return make_dynamic_model("early_exit", model, needed("early_exit", calls), exits=config.stanza)


def external(model: nn.Module, config: PassConfig, calls: CalibrationCalls | None, example_inputs: Any) -> nn.Module:
    """Return what a pass of another distribution makes; no labels are known."""
    inputs, _ = needed(config.name, calls).only_input(config.name)
    samples = Samples((inputs,), torch.full((len(inputs),), -1))
    return apply_static(registered_passes()[config.name], model, config.stanza, samples, seed=0)


def needed(name: str, calls: CalibrationCalls | None) -> CalibrationCalls:
    """Return the calls, which a pass cannot do without.

    Raises:
        PassError: There are none.
    """
    if calls is None:
        raise PassError(f"pass '{name}' needs `run_fn`, which calls the model on calibration batches")
    return calls
