"""Configs for Neural Compressor made from the stanzas of passes, and the algorithms that they stand for."""

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from neural_compressor.common.base_config import BaseConfig, config_registry, register_config
from neural_compressor.common.utils import GLOBAL, LOCAL, Mode
from neural_compressor.torch.utils import algos_mapping, register_algo
from pydantic import ValidationError
from torch import nn

from ...core.process_state import undisturbed
from ...errors import PassError, nearest
from ...passes import Stanza, explain
from ...runtime.model import DynamicExitModel
from .calls import Calls, Prepared, record_calls
from .combination import dump
from .quantized import refuse_quantized

#: Version of Neural Compressor from which on its registries are as they are used here.
OLDEST = (3, 10)


class PassConfig(BaseConfig):
    """Config of one pass: the parameters of its stanza, for the whole model.

    Args:
        white_list: Neural Compressor's own; a pass works on the whole model, so it stays at its default.
        **parameters: As in the recipe's stanza.

    Raises:
        PassError: A parameter is unknown or out of its range.
    """

    stanza_class: ClassVar[type[Stanza]]
    #: Takes model, config, calls (or None) and example inputs (or None); returns the new model.
    apply: ClassVar[Callable[["nn.Module", "PassConfig", Calls | None, Any], nn.Module]]
    #: Whether `set_local` gives modules parameters of their own.
    local: ClassVar[bool] = False

    def __init__(self, white_list="*", **parameters):
        if white_list not in ("*", None):
            raise PassError(f"pass '{self.name}' works on the whole model; leave `white_list` out")
        super().__init__(white_list)
        values = dump(self._validated(parameters))
        self.params_list = [*values]
        for key, value in values.items():
            setattr(self, key, value)
        self._post_init()

    @classmethod
    def _validated(cls, parameters: Mapping[str, Any]) -> Stanza:
        try:
            return cls.stanza_class.model_validate(parameters)
        except ValidationError as error:
            raise PassError(explain(error, cls.name)) from None

    def __setattr__(self, name, value):
        if self._is_initialized and not name.startswith("_") and not hasattr(type(self), name):
            if name not in self.params_list:
                raise PassError(f"unknown key '{self.name}.{name}'; {nearest(name, self.params_list)}")
            value = dump(self._validated({**self.get_params_dict(), name: value}))[name]
        super().__setattr__(name, value)

    def _post_init(self):
        # the base class asks for "*" or a list; the inner config that it makes has None
        if self.white_list is not None:
            super()._post_init()
        self._is_initialized = True

    @property
    def stanza(self) -> Stanza:
        """The parameters as the pass takes them."""
        return self._validated(self.get_params_dict())

    def get_params_dict(self) -> dict[str, Any]:
        """Return the parameters and their values."""
        return {key: getattr(self, key) for key in self.params_list}

    def set_local(self, operator_name_or_list, config: "PassConfig") -> "PassConfig":
        """Give modules parameters of their own.

        Args:
            operator_name_or_list: Name of a module (all inside it, too) or a pattern, a class of modules, or a list.
            config: Of the same pass.

        Raises:
            PassError: The pass knows only the whole model, or the config is of another one.
        """
        if not self.local:
            raise PassError(f"pass '{self.name}' works on the whole model and has no local parameters; set them once")
        if type(config) is not type(self):
            raise PassError(f"pass '{self.name}' takes local configs of its own kind; got {type(config).__name__}")
        given = operator_name_or_list if isinstance(operator_name_or_list, list) else [operator_name_or_list]
        return super().set_local([each if isinstance(each, str) else each.__name__ for each in given], config)

    @classmethod
    def from_dict(cls, config_dict) -> "PassConfig":
        """Return the config of what `to_dict` gave, or of plain parameters.

        Raises:
            PassError: A key is unknown.
        """
        values = {} if config_dict is None else config_dict
        if not isinstance(values, Mapping):
            raise PassError(f"pass '{cls.name}' takes a mapping of parameters; got {type(values).__name__}")
        for key in values if GLOBAL in values or LOCAL in values else ():
            if key not in (GLOBAL, LOCAL):
                raise PassError(f"key '{cls.name}.{key}' stands beside '{GLOBAL}' or '{LOCAL}'; write it below")
        return super().from_dict(values)

    @classmethod
    def from_json_file(cls, filename) -> "PassConfig":
        """Return the config that `to_json_file` wrote."""
        with open(filename, encoding="utf-8") as file:
            return cls.from_dict(json.load(file))

    def __add__(self, other):
        if isinstance(other, type(self)):
            raise PassError(f"pass '{self.name}' would run twice, or Neural Compressor drops what stands beside it in "
                            "one mapping; give `dynamic_exit.compress` the passes")  # fmt: skip
        return super().__add__(other)

    def _get_op_name_op_type_config(self):
        # asked only by Neural Compressor's combined config, which runs nothing that is set for a whole model
        raise PassError(f"Neural Compressor skips pass '{self.name}' in a combined config; call dynamic_exit.compress")

    def expand(self) -> list["PassConfig"]:
        """Return the config itself: a pass proposes no others to `autotune`."""
        return [self]

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
    def get_config_set_for_tuning(cls) -> "NoTrials":
        """Return what proposes no configs: `autotune` tries a pass only where its config is given."""
        return NoTrials(cls.name)


class NoTrials(BaseConfig):
    """What a pass proposes for Neural Compressor's default set: a config that expands to none.

    Args:
        name: Of the pass.
    """

    def __init__(self, name: str):
        super().__init__([])
        self.name = name

    def expand(self) -> list[BaseConfig]:
        """Return no configs."""
        return []

    def to_config_mapping(self, config_list=None, model_info=None) -> OrderedDict:
        """Refuse to be run.

        Raises:
            PassError: Always.
        """
        raise PassError(f"pass '{self.name}' has no default config for tuning; give `config_set` the configs to try")

    def get_model_info(self, model: nn.Module) -> list[tuple[str, str]]:
        """Return nothing."""
        return []

    @classmethod
    def register_supported_configs(cls) -> None:
        """It lists no operators."""

    @classmethod
    def get_config_set_for_tuning(cls) -> None:
        """It is such a set itself."""


def leave_out_of_default_set() -> None:
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
            return Prepared(model)
        if mode == Mode.CONVERT:
            if not isinstance(model, Prepared) or not model.made:
                raise PassError(f"pass '{name}' has seen no batches; call prepare(), feed its model, then convert()")
            return run_pass(model.model, chosen, lambda inner: [inner(*a, **n) for a, n in model.made], None, None)
        return run_pass(model, chosen, run_fn, run_args, example_inputs)

    return kind


def refuse_dynamic(name: str, model: nn.Module) -> None:
    """Refuse a model that has savers or exits already.

    Raises:
        PassError: It has.
    """
    if isinstance(model, DynamicExitModel):
        raise PassError(f"pass '{name}' got a model that is dynamic already; name all passes in one recipe instead")


def run_pass(model: nn.Module, config: PassConfig, run_fn, run_args, example_inputs) -> nn.Module:
    """Run one pass on a model, which stays as it was; arguments as Neural Compressor's `quantize` takes them.

    Returns:
        The new model.

    Raises:
        DynamicExitError: One sentence on what cannot be done and why.
    """
    refuse_dynamic(config.name, model)
    refuse_quantized(model)
    calls = record_calls(model, run_fn, run_args) if run_fn else None
    with undisturbed():
        return type(config).apply(model, config, calls, example_inputs)
