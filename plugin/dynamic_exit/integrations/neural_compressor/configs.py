"""Configs of Neural Compressor that are made from the stanzas of passes."""

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from neural_compressor.common.base_config import BaseConfig
from neural_compressor.common.utils import GLOBAL, LOCAL
from pydantic import ValidationError
from torch import nn

from ...errors import PassError, nearest
from ...passes import Stanza, explain
from .calibration import CalibrationCalls
from .stanza import dump


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
    apply: ClassVar[Callable[["nn.Module", "PassConfig", CalibrationCalls | None, Any], nn.Module]]
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
    def get_config_set_for_tuning(cls) -> "EmptyTuningSet":
        """Return what proposes no configs: `autotune` tries a pass only where its config is given."""
        return EmptyTuningSet(cls.name)


class EmptyTuningSet(BaseConfig):
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
