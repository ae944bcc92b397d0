"""The `quantization` stanza: names and parameters of Neural Compressor's algorithms, unchanged."""

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...errors import RecipeError, nearest
from .neural_compressor import import_neural_compressor

if TYPE_CHECKING:
    from ...onnx.quantize import QuantizationOptions

#: Supported values of the parameters of static quantization.
STATIC_CHOICES: dict[str, tuple[Any, ...]] = {
    "w_dtype": ("int8", "uint8"),
    "w_sym": (True, False),
    "w_granularity": ("per_channel", "per_tensor"),
    "w_algo": ("minmax",),
    "act_dtype": ("uint8", "int8"),
    "act_sym": (False, True),
    "act_granularity": ("per_tensor",),
    "act_algo": ("minmax", "kl"),
}
#: Supported values in an exported ONNX file; every other parameter must have its default.
ONNX_CHOICES: dict[str, dict[str, tuple[Any, ...]]] = {
    "static_quant": STATIC_CHOICES,
    "pt2e_dynamic_quant": STATIC_CHOICES | {"act_dtype": ("uint8",), "act_sym": (False,), "act_algo": ("minmax", "kl")},
    "rtn": {"dtype": ("int",), "bits": (4, 8), "use_sym": (True, False), "group_size": (16, 32, 64, 128, 256)},
}

#: Parameters of the algorithms that ONNX files may have, with Neural Compressor's defaults. Recipes that name no others
#: are checked without importing it, which takes seconds and 100 MB.
ONNX_DEFAULTS: dict[str, dict[str, Any]] = {
    "static_quant": {
        **{key: choices[0] for key, choices in STATIC_CHOICES.items()},
        "excluded_precisions": [],
        "white_list": "*",
        "model_info": None,
    },
    "pt2e_dynamic_quant": {
        **{key: choices[0] for key, choices in STATIC_CHOICES.items()},
        "w_granularity": "per_tensor",
        "act_algo": "kl",
        "white_list": "*",
    },
    "rtn": {
        "dtype": "int",
        "bits": 4,
        "use_sym": True,
        "group_size": 32,
        "group_dim": 1,
        "use_full_range": False,
        "use_mse_search": False,
        "use_layer_wise": True,
        "model_path": "",
        "use_double_quant": False,
        "double_quant_dtype": "int",
        "double_quant_bits": 8,
        "double_quant_use_sym": False,
        "double_quant_group_size": 256,
        "quant_lm_head": False,
        "white_list": "*",
    },
}


def known_algorithms() -> dict[str, dict[str, Any]]:
    """Return Neural Compressor's torch algorithms: name -> parameter -> default value."""
    import_neural_compressor()
    from neural_compressor.common.base_config import config_registry
    from neural_compressor.torch.quantization import INT8StaticQuantConfig

    registered = config_registry.get_cls_configs()["torch"]
    classes = {name: kind for name, kind in registered.items() if not hasattr(kind, "stanza_class")}  # not our passes
    classes["static_quant"] = INT8StaticQuantConfig  # the registered class is a dispatcher without parameters
    return {name: _parameters(config) for name, config in classes.items()}


def _parameters(config: type) -> dict[str, Any]:
    parameters = inspect.signature(config).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD}


def check_algorithms(stanza: Mapping[str, Mapping[str, Any] | None], *, several: bool = False) -> None:
    """Refuse algorithms and parameters that Neural Compressor lacks; it would ignore them silently.

    Args:
        stanza: Algorithm name -> parameters, as written under `quantization`.
        several: Whether any number of algorithms is allowed rather than exactly one.

    Raises:
        RecipeError: An unknown algorithm or parameter, or a wrong number of algorithms.
    """
    if not several and len(stanza) != 1:
        raise RecipeError(f"key 'quantization' must name one algorithm; got {len(stanza)}: {', '.join(stanza)}")
    if all(name in ONNX_DEFAULTS and {*(given or {})} <= {*ONNX_DEFAULTS[name]} for name, given in stanza.items()):
        return
    algorithms = known_algorithms()
    for name, parameters in stanza.items():
        if name not in algorithms:
            raise RecipeError(f"unknown key 'quantization.{name}'; {nearest(name, algorithms)}")
        for key in parameters or {}:
            if key not in algorithms[name]:
                raise RecipeError(f"unknown key 'quantization.{name}.{key}'; {nearest(key, algorithms[name])}")


def check_choices(name: str, values: Mapping[str, Any], choices: Mapping[str, tuple[Any, ...]], target: str) -> None:
    """Refuse unsupported values of parameters.

    Args:
        name: Of the algorithm.
        values: All of its parameters.
        choices: Parameter -> supported values, all of one type.
        target: What supports them, for messages.

    Raises:
        RecipeError: A value is not supported.
    """
    for key, known in choices.items():
        if values[key] not in known or isinstance(values[key], bool) != isinstance(known[0], bool):
            said = " or ".join(str(choice).lower() if isinstance(choice, bool) else repr(choice) for choice in known)
            raise RecipeError(f"key 'quantization.{name}.{key}' must be {said} for {target}; got {values[key]!r}")


def int8_options(stanza: Mapping[str, Mapping[str, Any] | None] | None) -> "list[QuantizationOptions]":
    """Translate the stanza into options for exported files.

    Args:
        stanza: Algorithm name -> parameters, or None for float. Measurements choose among several algorithms.

    Returns:
        Options of each algorithm; none if everything stays in float.

    Raises:
        RecipeError: An algorithm or value that onnxruntime does not support.
    """
    check_algorithms(stanza or {}, several=True)
    return [_onnx_options(name, parameters or {}) for name, parameters in (stanza or {}).items()]


def _onnx_options(name: str, parameters: Mapping[str, Any]) -> "QuantizationOptions":
    from ...onnx.quantize import QuantizationOptions  # loads onnxruntime's quantizer, which only some recipes need

    if name not in ONNX_CHOICES:
        raise RecipeError(
            f"key 'quantization.{name}' cannot be exported to ONNX; use {' or '.join(map(repr, ONNX_CHOICES))}"
        )
    defaults = ONNX_DEFAULTS[name]
    values, choices = {**defaults, **parameters}, ONNX_CHOICES[name]
    check_choices(name, values, choices, "ONNX")
    for key in defaults.keys() - choices.keys():
        if values[key] != defaults[key]:
            raise RecipeError(f"key 'quantization.{name}.{key}' has no effect on ONNX; leave it out")
    if name == "rtn":
        return QuantizationOptions(
            "weights", weight_symmetric=values["use_sym"], bits=values["bits"], group=values["group_size"]
        )
    return QuantizationOptions(
        "static" if name == "static_quant" else "dynamic",
        weight_type=values["w_dtype"],
        weight_symmetric=values["w_sym"],
        per_channel=values["w_granularity"] == "per_channel",
        activation_type=values["act_dtype"],
        activation_symmetric=values["act_sym"],
        calibration=values["act_algo"],
    )
