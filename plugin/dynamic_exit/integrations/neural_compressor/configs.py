"""Base of the config classes that Neural Compressor knows the passes by."""

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from neural_compressor.common.base_config import BaseConfig
from neural_compressor.common.utils import GLOBAL, LOCAL
from pydantic import ValidationError
from torch import nn

from ...errors import PassError, nearest
from ...passes import Stanza, explain
from .calibration import CalibrationCalls
from .stanza import dump

S = TypeVar("S", bound=Stanza)
#: Takes model, config, calibration calls (or None) and example inputs (or None); returns the new model.
PassFunction = Callable[[nn.Module, "PassConfig", CalibrationCalls | None, Any], nn.Module]


class PassConfig(BaseConfig):
    """Config of one pass: the parameters of its stanza, for the whole model.

    Args:
        white_list: Required by Neural Compressor; leave it at its default, as a pass works on the whole model.
        **parameters: As in the recipe's stanza.

    Raises:
        PassError: A parameter is unknown or out of range.
    """

    stanza_class: ClassVar[type[Stanza]]
    #: What the pass does.
    apply: ClassVar[PassFunction]
    #: Whether `set_local` may give single modules parameters of their own.
    local: ClassVar[bool] = False

    _override: PassFunction | None = None

    def __init__(self, white_list: str | None = "*", **parameters: Any):
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

    def __setattr__(self, name: str, value: Any) -> None:
        if self._is_initialized and not name.startswith("_") and not hasattr(type(self), name):
            if name not in self.params_list:
                raise PassError(f"unknown key '{self.name}.{name}'; {nearest(name, self.params_list)}")
            value = dump(self._validated({**self.get_params_dict(), name: value}))[name]
        super().__setattr__(name, value)

    def _post_init(self) -> None:
        # the base class expects "*" or a list, but creates an inner config with None
        if self.white_list is not None:
            super()._post_init()
        self._is_initialized = True

    @property
    def stanza(self) -> Stanza:
        """The parameters as the stanza of a recipe."""
        return self._validated(self.get_params_dict())

    def stanza_of(self, kind: type[S]) -> S:
        """Return the parameters as a stanza of a known class.

        Raises:
            TypeError: The stanza has another class.
        """
        stanza = self.stanza
        if not isinstance(stanza, kind):
            raise TypeError(f"pass '{self.name}' has a {type(stanza).__name__}, not a {kind.__name__}")
        return stanza

    def get_params_dict(self) -> dict[str, Any]:
        """Return the parameters and their values."""
        return {key: getattr(self, key) for key in self.params_list}

    def run(self, model: nn.Module, calls: CalibrationCalls | None, example_inputs: Any) -> nn.Module:
        """Apply the pass with these parameters.

        Args:
            model: In float.
            calls: Calibration calls; None without calibration.
            example_inputs: As for Neural Compressor's `quantize`.
        """
        return (self._override or type(self).apply)(model, self, calls, example_inputs)

    def override(self, apply: PassFunction) -> None:
        """Make this one config do something else; this is how the configuration optimizer follows its trials."""
        self._override = apply

    def set_local(
        self, operator_name_or_list: str | Callable[..., Any] | list[str | Callable[..., Any]], config: "PassConfig"
    ) -> "PassConfig":
        """Give single modules parameters of their own.

        Args:
            operator_name_or_list: Name of a module (covers all modules in it), a pattern, a module class, or a list.
            config: Config of the same pass.

        Raises:
            PassError: The pass has no local parameters, or the config belongs to another pass.
        """
        if not self.local:
            raise PassError(f"pass '{self.name}' works on the whole model and has no local parameters; set them once")
        if type(config) is not type(self):
            raise PassError(f"pass '{self.name}' takes local configs of its own kind; got {type(config).__name__}")
        given = operator_name_or_list if isinstance(operator_name_or_list, list) else [operator_name_or_list]
        super().set_local([each if isinstance(each, str) else each.__name__ for each in given], config)
        return self

    @classmethod
    def from_dict(cls, config_dict: Mapping[str, Any] | None) -> "PassConfig":
        """Return the config for the output of `to_dict`, or for plain parameters.

        Raises:
            PassError: A key is unknown.
        """
        values = {} if config_dict is None else config_dict
        if not isinstance(values, Mapping):
            raise PassError(f"pass '{cls.name}' takes a mapping of parameters; got {type(values).__name__}")
        for key in values if GLOBAL in values or LOCAL in values else ():
            if key not in (GLOBAL, LOCAL):
                raise PassError(f"key '{cls.name}.{key}' stands beside '{GLOBAL}' or '{LOCAL}'; write it below")
        config: PassConfig = super().from_dict(values)
        return config

    @classmethod
    def from_json_file(cls, filename: str | Path) -> "PassConfig":
        """Return the config that `to_json_file` wrote; Neural Compressor's own method fails on its own files."""
        with open(filename, encoding="utf-8") as file:
            return cls.from_dict(json.load(file))

    def __add__(self, other: BaseConfig) -> BaseConfig:
        if isinstance(other, type(self)):
            raise PassError(f"pass '{self.name}' would run twice, or Neural Compressor drops what stands beside it in "
                            "one mapping; give `dynamic_exit.compress` the passes")  # fmt: skip
        return super().__add__(other)

    def _get_op_name_op_type_config(self) -> None:
        # only called by Neural Compressor's combined config, which runs nothing that is set for a whole model
        raise PassError(f"Neural Compressor skips pass '{self.name}' in a combined config; call dynamic_exit.compress")

    def expand(self) -> list["PassConfig"]:
        """Return this config: a pass proposes no variants to `autotune`."""
        return [self]

    def to_config_mapping(
        self, config_list: list[BaseConfig] | None = None, model_info: Iterable[tuple[str, str]] = ()
    ) -> OrderedDict[tuple[str, str], "PassConfig"]:
        """Map the whole model to this config."""
        return OrderedDict((pair, self) for pair in model_info)

    def get_model_info(self, model: nn.Module) -> list[tuple[str, str]]:
        """Return one entry, for the whole model."""
        return [("model", type(model).__name__)]

    @classmethod
    def register_supported_configs(cls) -> None:
        """Do nothing: a pass works on the whole model, not on a list of operators."""

    @classmethod
    def get_config_set_for_tuning(cls) -> "EmptyTuningSet":
        """Return an empty set: `autotune` tries a pass only if its config is given."""
        return EmptyTuningSet(cls.name)


class EmptyTuningSet(BaseConfig):
    """A pass's share of Neural Compressor's default tuning set: a config that expands to none.

    Args:
        name: Name of the pass.
    """

    def __init__(self, name: str):
        super().__init__([])
        self.name = name

    def expand(self) -> list[BaseConfig]:
        """Return no configs."""
        return []

    def to_config_mapping(
        self, config_list: list[BaseConfig] | None = None, model_info: Iterable[tuple[str, str]] = ()
    ) -> OrderedDict[tuple[str, str], BaseConfig]:
        """Refuse to run.

        Raises:
            PassError: Always.
        """
        raise PassError(f"pass '{self.name}' has no default config for tuning; give `config_set` the configs to try")

    def get_model_info(self, model: nn.Module) -> list[tuple[str, str]]:
        """Return nothing."""
        return []

    @classmethod
    def register_supported_configs(cls) -> None:
        """Do nothing: there are no operators."""

    @classmethod
    def get_config_set_for_tuning(cls) -> None:
        """Return nothing: this is such a set."""
