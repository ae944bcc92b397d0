"""Configs for Neural Compressor made from the stanzas of passes, and the algorithms that they stand for."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from neural_compressor.common.base_config import BaseConfig, config_registry, register_config
from neural_compressor.common.utils import Mode
from neural_compressor.torch.utils import algos_mapping, register_algo
from pydantic import ValidationError
from torch import nn

from ..errors import PassError
from ..passes import explain, registered_passes
from . import algorithms


class PassConfig(BaseConfig):
    """Config of one pass: the parameters of its stanza, for the whole model.

    Args:
        white_list: Neural Compressor's own; a pass works on the whole model, so it stays at its default.
        **parameters: As in the recipe's stanza.

    Raises:
        PassError: A parameter is unknown or out of its range.
    """

    def __init__(self, white_list="*", **parameters):
        super().__init__(white_list)
        try:
            stanza = registered_passes()[self.name].stanza.model_validate(parameters)
        except ValidationError as error:
            raise PassError(explain(error, self.name)) from None
        self.params_list = [*type(stanza).model_fields]
        for key, value in stanza.model_dump(mode="json").items():
            setattr(self, key, value)
        self._post_init()

    @property
    def stanza(self):
        """The parameters as the pass takes them."""
        return registered_passes()[self.name].stanza.model_validate(
            {key: getattr(self, key) for key in self.params_list}
        )

    def get_params_dict(self) -> dict[str, Any]:
        """Return the parameters and their values."""
        return {key: getattr(self, key) for key in self.params_list}

    def to_config_mapping(self, config_list=None, model_info=None) -> OrderedDict:
        """Map the whole model to this config."""
        return OrderedDict({pair: self for pair in model_info})

    def get_model_info(self, model: nn.Module) -> list[tuple[str, str]]:
        """Return one entry, for the whole model."""
        return [("model", type(model).__name__)]

    @classmethod
    def register_supported_configs(cls) -> None:
        """A pass lists no operators: it works on the whole model."""

    @classmethod
    def get_config_set_for_tuning(cls):
        """Return the config with its defaults."""
        return cls()


def register(name: str, apply: Callable[..., nn.Module]) -> type[PassConfig]:
    """Register a pass with Neural Compressor.

    Args:
        name: Of a registered pass.
        apply: Takes model, stanza, `run_fn`, `run_args` and `example_inputs`; returns the new model.

    Returns:
        The config class.

    Raises:
        PassError: Neural Compressor already has an algorithm of that name.
    """
    if name in config_registry.get_cls_configs().get("torch", {}) or name in algos_mapping:
        raise PassError(f"Neural Compressor already has an algorithm '{name}'; choose another name")
    config = type(f"{''.join(word.title() for word in name.split('_'))}Config", (PassConfig,), {"name": name})
    config.__doc__ = registered_passes()[name].stanza.__doc__
    config.__module__ = __name__
    register_config(framework_name="torch", algo_name=name)(config)

    @register_algo(name)
    def algorithm(
        model, configs_mapping, mode=Mode.QUANTIZE, run_fn=None, run_args=None, example_inputs=None, **kwargs
    ):
        if mode != Mode.QUANTIZE:
            raise PassError(f"pass '{name}' has no separate steps; call quantize() instead of prepare() and convert()")
        chosen = next(config for config in configs_mapping.values() if config.name == name)
        return apply(model, chosen.stanza, run_fn=run_fn, run_args=run_args, example_inputs=example_inputs)

    return config


PruningConfig = register("pruning", algorithms.pruning)
TinySaverConfig = register("tiny_saver", algorithms.tiny_saver)
EarlyExitConfig = register("early_exit", algorithms.early_exit)
