"""Passes in the written order, read from configs and mappings and checked before anything is done."""

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from neural_compressor.common.base_config import BaseConfig, ComposableConfig, config_registry
from neural_compressor.common.utils import GLOBAL, LOCAL
from neural_compressor.torch.quantization import quantize
from torch import nn

from ..errors import DynamicExitError, PassError, RecipeError, first_line, nearest
from ..graph import Classifier, capture, split
from ..passes.quantization.config import known_algorithms
from .adapter import PassConfig
from .algorithms import needed
from .calls import Calls
from .dynamic import MAX_DISAGREEMENT, evaluating, make_dynamic
from .segments import quantize_segments

COMBINATION = "dynamic_exit"
_STATIC_QUANT = "static_quant"
# algorithms of Neural Compressor that look at weights alone
_WEIGHTS_ALONE = ("rtn", "hqq", "mx_quant", "pt2e_dynamic_quant", "mixed_precision")
_SAVERS, _EXITS = "tiny_saver", "early_exit"


class Plan:
    """What is done to a model, in order.

    Args:
        given: A config, a mapping of algorithm names and parameters, or a list of both.

    Attributes:
        configs: One for each pass, in order; savers and exits last.
        limit: Largest share of answers that savers and exits may change, in 0..1.

    Raises:
        DynamicExitError: A pass is unknown, misspelt, of another framework, there twice, or in an impossible place.
    """

    def __init__(self, given: Any):
        self.limit = MAX_DISAGREEMENT
        configs = _configs(given)
        if sum(config.name == COMBINATION for config in configs) > 1:  # each has a goal
            raise PassError(f"pass '{COMBINATION}' is written twice, each with a goal of its own; put them together")
        self.configs = [step for config in configs for step in self._steps(config)]
        if not self.configs:
            raise RecipeError("the list of passes is empty; name at least one")
        names = [config.name for config in self.configs]
        for name in names:
            if names.count(name) > 1:
                raise PassError(f"pass '{name}' is written twice; keep one")
        quantizing = [config.name for config in self.configs if not isinstance(config, PassConfig)]
        if len(quantizing) > 1:
            raise PassError(f"passes '{quantizing[0]}' and '{quantizing[1]}' both quantize; keep one")
        for config in self.configs:
            if config.name == _STATIC_QUANT and config.local_config:
                raise PassError("'static_quant' is set for the whole model here; leave `set_local` out")
        for before, after in zip(self.configs, self.configs[1:], strict=False):
            if _rank(before) > _rank(after):
                raise PassError(f"pass '{after.name}' cannot come after '{before.name}'; write '{after.name}' first")

    def _steps(self, config: BaseConfig) -> list[BaseConfig]:
        if config.name != COMBINATION:
            return [config]
        stanza, known = config.stanza, config_registry.get_cls_configs()["torch"]
        self.limit = stanza.tuning.max_accuracy_drop
        steps = [known[name].from_dict(each.model_dump()) for name, each in stanza.static_passes.items()]
        steps += [_config(name, parameters) for name, parameters in (stanza.quantization or {}).items()]
        dynamic = {_SAVERS: stanza.tiny_saver, _EXITS: stanza.early_exit}
        return steps + [known[name].from_dict(each.model_dump()) for name, each in dynamic.items() if each]

    def needs_calls(self, example_inputs: Any) -> str | None:
        """Return the first pass that cannot do without calibration batches, or None."""
        free = [*_WEIGHTS_ALONE, *(["pruning"] if example_inputs is not None else [])]
        return next((config.name for config in self.configs if config.name not in free), None)

    def run(self, model: nn.Module, calls: Calls | None, example_inputs: Any = None) -> nn.Module:
        """Run the passes on a copy of a model, which stays as it was.

        Args:
            model: In float.
            calls: What it is calibrated on; None where no pass needs any.
            example_inputs: As Neural Compressor takes them.

        Raises:
            DynamicExitError: One sentence on what cannot be done and why.
        """
        current, later = copy.deepcopy(model).eval(), {}
        for config in self.configs:
            if config.name in (_STATIC_QUANT, _SAVERS, _EXITS):
                later[config.name] = config
            elif isinstance(config, PassConfig):
                current = type(config).apply(current, config, calls, example_inputs)
            else:
                current = _quantized(config, current, calls and calls.replay, example_inputs)
        int8 = None
        if _STATIC_QUANT in later:
            run_one = partial(_quantized, later.pop(_STATIC_QUANT))
            int8 = partial(quantize_segments, quantize=lambda body, run_fn: run_one(body, run_fn))
        if later:
            stanzas = {_SAVERS: "savers", _EXITS: "exits"}
            given = {stanzas[name]: config.stanza for name, config in later.items()}
            name = next(iter(later))
            return make_dynamic(name, current, needed(name, calls), limit=self.limit, quantize=int8, **given)
        return _static_quant(current, needed(_STATIC_QUANT, calls), int8) if int8 else current


def _static_quant(model: nn.Module, calls: Calls, int8: Callable) -> nn.Module:
    inputs, keyword = calls.only_input(_STATIC_QUANT)
    with evaluating(model):
        program = capture(Classifier(model, keywords=keyword and [keyword]), (inputs[:2],))
    (whole,) = int8(split(program, []), inputs)
    return whole


def _quantized(config: BaseConfig, model: nn.Module, run_fn: Callable | None, example_inputs: Any = None) -> nn.Module:
    try:
        return quantize(model, copy.deepcopy(config), run_fn=run_fn, example_inputs=example_inputs)
    except DynamicExitError:
        raise
    except Exception as error:  # Neural Compressor raises anything
        said = f"{type(error).__name__}: {first_line(error)}"
        raise PassError(f"Neural Compressor's '{config.name}' failed with {said}; the model is as it was") from error


def _rank(config: BaseConfig) -> int:
    if not isinstance(config, PassConfig):
        return 1
    return {_SAVERS: 2, _EXITS: 3}.get(config.name, 0)


def _configs(given: Any) -> list[BaseConfig]:
    if isinstance(given, ComposableConfig):
        return _configs(list(given.config_list))
    if isinstance(given, BaseConfig):
        return [_of_torch(given)]
    if isinstance(given, Mapping):
        return [_config(name, parameters) for name, parameters in given.items()]
    if isinstance(given, list | tuple):
        return [config for each in given for config in _configs(each)]
    raise RecipeError(f"passes must be configs, mappings or a list of them; got {type(given).__name__}")


def _of_torch(config: BaseConfig) -> BaseConfig:
    known = config_registry.get_cls_configs()
    if not isinstance(config, tuple(known["torch"].values())) and config.name != _STATIC_QUANT:
        _refuse_framework(config.name, type(config))
        raise RecipeError(f"config {type(config).__name__} is not registered with Neural Compressor; register it")
    return config


def _refuse_framework(name: str, kind: type | None = None) -> None:
    for framework, known in config_registry.get_cls_configs().items():
        if framework != "torch" and (known.get(name) is kind if kind else name in known):
            raise PassError(f"algorithm '{name}' is one for {framework}, the model is a torch module; use a torch one")


def _config(name: Any, parameters: Any) -> BaseConfig:
    known = config_registry.get_cls_configs()["torch"]
    if name not in known:
        _refuse_framework(name)
        raise RecipeError(f"unknown pass '{name}'; {nearest(str(name), known)}")
    if isinstance(parameters, BaseConfig):
        return _of_torch(parameters)
    if not issubclass(known[name], PassConfig):
        _check_parameters(name, parameters)
    return known[name].from_dict({} if parameters is None else parameters)


def _check_parameters(name: str, parameters: Any) -> None:
    """Refuse what Neural Compressor would accept silently."""
    if not isinstance(parameters, Mapping | None):
        raise RecipeError(f"pass '{name}' takes a mapping of parameters; got {type(parameters).__name__}")
    known, values = known_algorithms()[name], parameters or {}
    nested = [values.get(GLOBAL, {}), *values.get(LOCAL, {}).values()] if {GLOBAL, LOCAL} & values.keys() else [values]
    for key in [key for each in nested for key in each]:
        if key not in known:
            raise RecipeError(f"unknown key '{name}.{key}'; {nearest(key, known)}")
