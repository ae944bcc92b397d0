"""The passes that are run on a model, in the written order; read from configs and mappings, and checked first."""

import copy
from collections.abc import Mapping
from functools import partial
from typing import Any

from neural_compressor.common.base_config import BaseConfig, ComposableConfig, config_registry
from neural_compressor.common.utils import GLOBAL, LOCAL
from torch import nn

from ...errors import PassError, RecipeError, nearest
from ...graph import check_objective
from ...passes import EarlyExitStanza, TinySaverStanza
from ...passes.quantization.config import known_algorithms
from ...passes.quantization.pt2e import QuantizedModel, quantize_pt2e, split_pt2e
from ...passes.quantization.support import PT2E, check_support
from .calibration import CalibrationCalls, require_calls
from .configs import PassConfig
from .in_memory import MAX_DISAGREEMENT, make_dynamic_model
from .quantization import quantize_modules, run_algorithm
from .support import check_given

#: Name of the algorithm that runs several passes.
DYNAMIC_EXIT = "dynamic_exit"
# algorithms of Neural Compressor that read only weights, and passes for which the shape of the input is enough
_WEIGHT_ONLY, _SHAPE_ONLY = ("rtn", "hqq", "mx_quant", "mixed_precision"), ("pruning", "pt2e_dynamic_quant")
_SAVERS, _EXITS = "tiny_saver", "early_exit"


class Plan:
    """The passes for one model.

    Args:
        passes: A config, a mapping from algorithm names to parameters, or a list of both.

    Attributes:
        configs: One for each pass, in order; savers and exits last.
        limit: Largest share of answers that savers and exits may change, in 0..1.

    Raises:
        DynamicExitError: A pass is unknown, misspelled, of another framework, repeated or out of order.
    """

    def __init__(self, passes: Any):
        self.limit = MAX_DISAGREEMENT
        configs = _configs(passes)
        if sum(config.name == DYNAMIC_EXIT for config in configs) > 1:  # each has a goal of its own
            raise PassError(f"pass '{DYNAMIC_EXIT}' is written twice, each with a goal of its own; put them together")
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
        for before, after in zip(self.configs, self.configs[1:], strict=False):
            if _rank(before) > _rank(after):
                raise PassError(f"pass '{after.name}' cannot come after '{before.name}'; write '{after.name}' first")

    def _steps(self, config: BaseConfig) -> list[BaseConfig]:
        if config.name != DYNAMIC_EXIT:
            return [config]
        stanza, known = config.stanza, config_registry.get_cls_configs()["torch"]
        self.limit = stanza.tuning.max_accuracy_drop
        steps = [known[name].from_dict(each.model_dump()) for name, each in stanza.static_passes.items()]
        steps += [_config(name, parameters) for name, parameters in (stanza.quantization or {}).items()]
        dynamic = {_SAVERS: stanza.tiny_saver, _EXITS: stanza.early_exit}
        return steps + [known[name].from_dict(each.model_dump()) for name, each in dynamic.items() if each]

    def check(self, model: nn.Module) -> None:
        """Check that every pass can run on a model.

        Raises:
            PassError: The model is already dynamic, quantized or exported, or an algorithm cannot run here.
            ModelError: It is not on the CPU, or a multi-label or regression model, for which savers and exits make no
                sense.
        """
        check_given(self.configs[0].name, model)
        if getattr(model, "_exported", False):
            raise PassError("the model is an exported graph, which has no modules to cut; give what it was made of")
        for config in self.configs:
            if not isinstance(config, PassConfig):
                check_support(config, model)
            elif config.name in (_SAVERS, _EXITS):
                check_objective(model, "the model")

    def needs_calls(self, example_inputs: Any) -> str | None:
        """Return the name of the first pass that needs calibration, or None."""
        free = [*_WEIGHT_ONLY, *(_SHAPE_ONLY if example_inputs is not None else ())]
        return next((config.name for config in self.configs if config.name not in free), None)

    def run(self, model: nn.Module, calls: CalibrationCalls | None, example_inputs: Any = None) -> nn.Module:
        """Run the passes on a copy of a model; the given one does not change.

        Args:
            model: In float.
            calls: Calibration calls; None if no pass needs any.
            example_inputs: As for Neural Compressor's `quantize`.

        Raises:
            DynamicExitError: One sentence on what cannot be done and why.
        """
        current = copy.deepcopy(model).eval()
        quantized: QuantizedModel | None = None
        dynamic: dict[str, PassConfig] = {}
        for config in self.configs:
            if config.name in (_SAVERS, _EXITS):
                dynamic[config.name] = config
            elif isinstance(config, PassConfig):
                current = config.run(current, calls, example_inputs)
            elif config.name in PT2E:
                batches = calls or CalibrationCalls.of_example(example_inputs)
                inputs, keyword = batches.only_input(config.name)
                run = partial(run_algorithm, config)
                quantized = quantize_pt2e(config.name, current, inputs[:2], keyword, batches.calls, run)
            else:
                current = quantize_modules(config, current, calls, example_inputs)
        if not dynamic:
            return current if quantized is None else quantized
        name = next(iter(dynamic))
        return make_dynamic_model(
            name,
            current,
            require_calls(name, calls),
            savers=dynamic[_SAVERS].stanza_of(TinySaverStanza) if _SAVERS in dynamic else None,
            exits=dynamic[_EXITS].stanza_of(EarlyExitStanza) if _EXITS in dynamic else None,
            limit=self.limit,
            cut_quantized=None if quantized is None else partial(split_pt2e, quantized),
        )


def _rank(config: BaseConfig) -> int:
    if not isinstance(config, PassConfig):
        return 1
    return {_SAVERS: 2, _EXITS: 3}.get(config.name, 0)


def _configs(passes: Any) -> list[BaseConfig]:
    if isinstance(passes, ComposableConfig):
        return _configs(list(passes.config_list))
    if isinstance(passes, BaseConfig):
        return [_of_torch(passes)]
    if isinstance(passes, Mapping):
        return [_config(name, parameters) for name, parameters in passes.items()]
    if isinstance(passes, list | tuple):
        return [config for each in passes for config in _configs(each)]
    raise RecipeError(f"passes must be configs, mappings or a list of them; got {type(passes).__name__}")


def _of_torch(config: BaseConfig) -> BaseConfig:
    known = config_registry.get_cls_configs()
    if not isinstance(config, tuple(known["torch"].values())) and config.name not in PT2E:
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
    """Refuse parameters that Neural Compressor would silently ignore."""
    if not isinstance(parameters, Mapping | None):
        raise RecipeError(f"pass '{name}' takes a mapping of parameters; got {type(parameters).__name__}")
    known, values = known_algorithms()[name], parameters or {}
    nested = [values.get(GLOBAL, {}), *values.get(LOCAL, {}).values()] if {GLOBAL, LOCAL} & values.keys() else [values]
    for key in [key for each in nested for key in each]:
        if key not in known:
            raise RecipeError(f"unknown key '{name}.{key}'; {nearest(key, known)}")
