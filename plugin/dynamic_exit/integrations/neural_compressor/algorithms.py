"""The passes as algorithms of Neural Compressor: in memory, without labels, on calibration inputs."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import PassError, nearest
from ...graph import Classifier
from ...passes import EarlyExitStanza, PruningStanza, Samples, TinySaverStanza, apply_static, registered_passes
from ...passes.pruning import prune
from ...runtime.model import DynamicExitModel
from .calibration import CalibrationCalls, require_calls
from .configs import PassConfig
from .in_memory import make_dynamic_model
from .plan import Plan


def pruning(model: nn.Module, config: PassConfig, calls: CalibrationCalls | None, example_inputs: Any) -> nn.Module:
    """Return a pruned copy; if there are calibration inputs, it is fine-tuned on them to answer as the model does."""
    train, keywords = None, None
    if calls is not None or example_inputs is None:
        inputs, keywords = require_calls("pruning", calls).inputs("pruning")
        train = (*inputs, torch.full((len(inputs[0]),), -1))
        inputs = tuple(each[:2] for each in inputs)
    elif isinstance(example_inputs, Mapping):
        inputs, keywords = tuple(example_inputs.values()), tuple(example_inputs)
    else:
        inputs = (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)
    classifier = Classifier(model, keywords=keywords)
    pruned = prune(classifier, inputs, config.stanza_of(PruningStanza), train, ratios=_local_ratios(model, config))
    return pruned.get_submodule("model")


def _local_ratios(model: nn.Module, config: PassConfig) -> dict[str, float]:
    """Ratio by module name, for the modules that `set_local` was called for."""
    ratios: dict[str, float] = {}
    for key, local in config.local_config.items():
        names = [name for name, module in model.named_modules() if name and _matches(key, name, module)]
        if not names:
            known = [name for name, _ in model.named_modules() if name]
            raise PassError(f"pass 'pruning' finds no module '{key}'; {nearest(key, known)}")
        if local.ratio is None:
            raise PassError(f"pass 'pruning' has `target_cost` for '{key}', but it counts the whole model; set `ratio`")
        ratios |= dict.fromkeys(names, local.ratio)
    return ratios


def _matches(key: str, name: str, module: nn.Module) -> bool:
    return name == key or name.startswith(f"{key}.") or type(module).__name__ == key or bool(re.fullmatch(key, name))


def tiny_saver(
    model: nn.Module, config: PassConfig, calls: CalibrationCalls | None, example_inputs: Any
) -> DynamicExitModel:
    """Return the model behind the savers that pay off, tuned to agree with it."""
    stanza = config.stanza_of(TinySaverStanza)
    return make_dynamic_model("tiny_saver", model, require_calls("tiny_saver", calls), savers=stanza)


def early_exit(
    model: nn.Module, config: PassConfig, calls: CalibrationCalls | None, example_inputs: Any
) -> DynamicExitModel:
    """Return the model with exits, trained on half of the calibration inputs and tuned on the other half."""
    stanza = config.stanza_of(EarlyExitStanza)
    return make_dynamic_model("early_exit", model, require_calls("early_exit", calls), exits=stanza)


def dynamic_exit(
    model: nn.Module, config: PassConfig, calls: CalibrationCalls | None, example_inputs: Any
) -> nn.Module:
    """Return the model with savers and exits, after the static passes that the config names."""
    plan = Plan(config)
    plan.check(model)
    return plan.run(model, calls, example_inputs)


def external(model: nn.Module, config: PassConfig, calls: CalibrationCalls | None, example_inputs: Any) -> nn.Module:
    """Return the result of a static pass from another distribution; it sees no labels."""
    inputs, _ = require_calls(config.name, calls).only_input(config.name)
    samples = Samples((inputs,), torch.full((len(inputs),), -1))
    return apply_static(registered_passes()[config.name], model, config.stanza, samples, seed=0)
