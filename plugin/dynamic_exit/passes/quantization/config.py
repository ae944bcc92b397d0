"""The `quantization` stanza: Neural Compressor's own algorithm names and parameters, unchanged."""

import inspect
from collections.abc import Mapping
from typing import Any

from ...errors import RecipeError, nearest
from ...onnx.int8 import Int8Options

# parameters of Neural Compressor that have no meaning for an exported file, and may only stand at their defaults
_NOT_EXPORTED = ("excluded_precisions", "white_list", "model_info")
_CHOICES = {
    "w_dtype": ("int8", "uint8"),
    "w_granularity": ("per_channel", "per_tensor"),
    "w_algo": ("minmax",),
    "act_dtype": ("uint8", "int8"),
    "act_granularity": ("per_tensor",),
    "act_algo": ("minmax", "kl"),
}


def known_algorithms() -> dict[str, dict[str, Any]]:
    """Return Neural Compressor's torch algorithms: name -> parameter -> default."""
    import transformers  # noqa: F401  Neural Compressor must be imported after it
    from neural_compressor.common.base_config import config_registry
    from neural_compressor.torch.quantization import INT8StaticQuantConfig

    registered = config_registry.get_cls_configs()["torch"]
    classes = {name: kind for name, kind in registered.items() if not hasattr(kind, "stanza_class")}  # passes have one
    classes["static_quant"] = INT8StaticQuantConfig  # the registered class is a dispatcher without parameters
    return {name: _parameters(config) for name, config in classes.items()}


def _parameters(config: type) -> dict[str, Any]:
    parameters = inspect.signature(config.__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.name != "self" and p.kind is p.POSITIONAL_OR_KEYWORD}


def check_algorithms(stanza: Mapping[str, Mapping[str, Any] | None]) -> None:
    """Refuse algorithms and parameters that Neural Compressor does not know (it would accept them silently).

    Args:
        stanza: Algorithm name -> parameters, as written under `quantization`.

    Raises:
        RecipeError: An unknown algorithm or parameter, or more than one algorithm.
    """
    algorithms = known_algorithms()
    if len(stanza) != 1:
        raise RecipeError(f"key 'quantization' must name one algorithm; got {len(stanza)}: {', '.join(stanza)}")
    ((name, parameters),) = stanza.items()
    if name not in algorithms:
        raise RecipeError(f"unknown key 'quantization.{name}'; {nearest(name, algorithms)}")
    for key in parameters or {}:
        if key not in algorithms[name]:
            raise RecipeError(f"unknown key 'quantization.{name}.{key}'; {nearest(key, algorithms[name])}")


def int8_options(stanza: Mapping[str, Mapping[str, Any] | None] | None) -> Int8Options | None:
    """Translate the stanza for the exported file.

    Args:
        stanza: Algorithm name -> parameters, or None for float.

    Returns:
        Options for the quantization of each exported stage, or None where everything stays in float.

    Raises:
        RecipeError: Something that onnxruntime cannot do.
    """
    if not stanza:
        return None
    check_algorithms(stanza)
    ((name, given),) = stanza.items()
    if name != "static_quant":
        raise RecipeError(f"key 'quantization.{name}' cannot be exported to ONNX yet; use 'static_quant'")
    defaults = known_algorithms()[name]
    values = {**defaults, **(given or {})}
    for key, choices in _CHOICES.items():
        if values[key] not in choices:
            known = " or ".join(f"'{choice}'" for choice in choices)
            raise RecipeError(f"key 'quantization.{name}.{key}' must be {known} for ONNX; got {values[key]!r}")
    for key in _NOT_EXPORTED:
        if values[key] != defaults[key]:
            raise RecipeError(f"key 'quantization.{name}.{key}' has no effect on ONNX; leave it out")
    for key in ("w_sym", "act_sym"):
        if not isinstance(values[key], bool):
            raise RecipeError(f"key 'quantization.{name}.{key}' must be true or false; got {values[key]!r}")
    return Int8Options(
        weight_type=values["w_dtype"],
        weight_symmetric=values["w_sym"],
        per_channel=values["w_granularity"] == "per_channel",
        activation_type=values["act_dtype"],
        activation_symmetric=values["act_sym"],
        calibration=values["act_algo"],
    )
