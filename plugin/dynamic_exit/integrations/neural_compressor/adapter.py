"""Configs for Neural Compressor made from the stanzas of passes, and the algorithms that they stand for."""

from collections.abc import Callable

from neural_compressor.common.base_config import BaseConfig, config_registry, register_config
from neural_compressor.common.utils import Mode
from neural_compressor.torch.utils import algos_mapping, register_algo
from torch import nn

from ...core.process_state import preserve_process_state
from ...errors import PassError
from ...passes import Stanza
from .calibration import CalibrationRecorder, record_calibration
from .configs import PassConfig
from .support import refuse_dynamic, refuse_quantized

#: Version of Neural Compressor from which on its registries are as they are used here.
OLDEST = (3, 10)


def exclude_from_default_set() -> None:
    """Let Neural Compressor's `get_all_config_set` list its own algorithms and those of others, but no passes."""
    every = type(config_registry).get_all_config_cls_by_fwk_name

    def without_passes(fwk_name: str) -> list[type[BaseConfig]]:
        return [kind for kind in every(fwk_name) if not issubclass(kind, PassConfig)]

    # nothing but the set for tuning is made of this list; all that looks algorithms up by name finds the passes
    config_registry.get_all_config_cls_by_fwk_name = without_passes


def check_version(version: str) -> None:
    """Refuse a Neural Compressor that is too old.

    Raises:
        PassError: It is older than `OLDEST`.
    """
    numbers = tuple(int(part) for part in version.split(".")[:2])
    if numbers < OLDEST:
        raise PassError(f"Neural Compressor {version} is too old; install {'.'.join(map(str, OLDEST))} or newer")


def register(name: str, stanza: type[Stanza], apply: Callable[..., nn.Module], local: bool = False) -> type[PassConfig]:
    """Register a pass with Neural Compressor.

    Args:
        name: An identifier.
        stanza: Model of its parameters.
        apply: As `PassConfig.apply`.
        local: As `PassConfig.local`.

    Returns:
        The config class.

    Raises:
        PassError: Neural Compressor already has an algorithm of that name.
    """
    if name in config_registry.get_cls_configs().get("torch", {}) or name in algos_mapping:
        raise PassError(f"Neural Compressor already has an algorithm '{name}'; choose another name")
    members = {"name": name, "stanza_class": stanza, "apply": staticmethod(apply), "local": local}
    kind = type(f"{''.join(word.title() for word in name.split('_'))}Config", (PassConfig,), members)
    kind.__doc__ = stanza.__doc__
    kind.__module__ = __name__
    register_config(framework_name="torch", algo_name=name)(kind)

    @register_algo(name)
    def algorithm(
        model, configs_mapping, mode=Mode.QUANTIZE, run_fn=None, run_args=None, example_inputs=None, **kwargs
    ):
        chosen = next(config for config in configs_mapping.values() if config.name == name)
        if mode == Mode.PREPARE:
            refuse_dynamic(name, model)
            refuse_quantized(model)
            return CalibrationRecorder(model)
        if mode == Mode.CONVERT:
            if not isinstance(model, CalibrationRecorder) or not model.made:
                raise PassError(f"pass '{name}' has seen no batches; call prepare(), feed its model, then convert()")
            return run_pass(model.model, chosen, lambda inner: [inner(*a, **n) for a, n in model.made], None, None)
        return run_pass(model, chosen, run_fn, run_args, example_inputs)

    return kind


def run_pass(model: nn.Module, config: PassConfig, run_fn, run_args, example_inputs) -> nn.Module:
    """Run one pass on a model, which stays as it was; arguments as Neural Compressor's `quantize` takes them.

    Returns:
        The new model.

    Raises:
        DynamicExitError: One sentence on what cannot be done and why.
    """
    refuse_dynamic(config.name, model)
    refuse_quantized(model)
    calls = record_calibration(model, run_fn, run_args) if run_fn else None
    with preserve_process_state():
        return type(config).apply(model, config, calls, example_inputs)
