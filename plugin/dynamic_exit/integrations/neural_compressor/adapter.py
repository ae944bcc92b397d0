"""Registration of single passes with Neural Compressor, and their execution."""

from collections.abc import Callable, Mapping
from typing import Any

from neural_compressor.common.base_config import BaseConfig, config_registry, register_config
from neural_compressor.common.utils import Mode
from neural_compressor.torch.utils import algos_mapping, register_algo
from torch import nn

from ...core.process_state import preserve_process_state
from ...errors import PassError
from ...passes import Stanza
from .calibration import CalibrationCalls, CalibrationRecorder, record_calibration
from .configs import PassConfig, PassFunction
from .support import check_given

#: Oldest version of Neural Compressor with the registries that are used here.
MIN_VERSION = (3, 10)


def exclude_from_default_set() -> None:
    """Keep the passes out of Neural Compressor's `get_all_config_set`, which lists all other algorithms as before."""
    list_all = type(config_registry).get_all_config_cls_by_fwk_name

    def without_passes(fwk_name: str) -> list[type[BaseConfig]]:
        return [kind for kind in list_all(fwk_name) if not issubclass(kind, PassConfig)]

    # only the tuning set is made from this list; lookups by name use another method and find the passes
    config_registry.get_all_config_cls_by_fwk_name = without_passes


def check_version(version: str) -> None:
    """Check that Neural Compressor is not too old.

    Raises:
        PassError: It is older than `MIN_VERSION`.
    """
    numbers = tuple(int(part) for part in version.split(".")[:2])
    if numbers < MIN_VERSION:
        required = ".".join(map(str, MIN_VERSION))
        raise PassError(f"Neural Compressor {version} is too old; install {required} or newer")


def register(name: str, stanza: type[Stanza], apply: PassFunction, local: bool = False) -> type[PassConfig]:
    """Register a pass with Neural Compressor.

    Args:
        name: An identifier.
        stanza: Model of its parameters.
        apply: As `PassConfig.apply`.
        local: As `PassConfig.local`.

    Returns:
        The config class.

    Raises:
        PassError: Neural Compressor already has an algorithm with that name.
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
        model: nn.Module,
        configs_mapping: Mapping[tuple[str, str], BaseConfig],
        mode: Mode = Mode.QUANTIZE,
        run_fn: Callable[..., Any] | None = None,
        run_args: Any = None,
        example_inputs: Any = None,
        **kwargs: Any,
    ) -> nn.Module:
        config = next(config for config in configs_mapping.values() if config.name == name)
        if mode == Mode.PREPARE:
            check_given(name, model)
            return CalibrationRecorder(model)
        if mode == Mode.CONVERT:
            if not isinstance(model, CalibrationRecorder) or not model.calls:
                raise PassError(f"pass '{name}' has seen no batches; call prepare(), feed its model, then convert()")
            return _run(model.model, config, CalibrationCalls(tuple(model.calls)), None)
        check_given(name, model)
        calls = record_calibration(model, run_fn, run_args) if run_fn else None
        return _run(model, config, calls, example_inputs)

    return kind


def _run(model: nn.Module, config: PassConfig, calls: CalibrationCalls | None, example_inputs: Any) -> nn.Module:
    with preserve_process_state():
        return config.run(model, calls, example_inputs)
