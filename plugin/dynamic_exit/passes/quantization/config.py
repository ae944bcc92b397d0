"""The `quantization` stanza: Neural Compressor's own algorithm names and parameters, unchanged."""

import inspect
from collections.abc import Mapping
from typing import Any

from ...errors import RecipeError, nearest
from ...onnx.quantize import QuantizationOptions

#: Known values of what static quantization can be told.
STATIC = {
    "w_dtype": ("int8", "uint8"),
    "w_sym": (True, False),
    "w_granularity": ("per_channel", "per_tensor"),
    "w_algo": ("minmax",),
    "act_dtype": ("uint8", "int8"),
    "act_sym": (False, True),
    "act_granularity": ("per_tensor",),
    "act_algo": ("minmax", "kl"),
}
# what an exported file can have of each algorithm; every other parameter may only stand at its default
_EXPORTED: dict[str, dict[str, tuple]] = {
    "static_quant": STATIC,
    "pt2e_dynamic_quant": STATIC | {"act_dtype": ("uint8",), "act_sym": (False,), "act_algo": ("minmax", "kl")},
    "rtn": {"dtype": ("int",), "bits": (4, 8), "use_sym": (True, False), "group_size": (16, 32, 64, 128, 256)},
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


def check_algorithms(stanza: Mapping[str, Mapping[str, Any] | None], *, several: bool = False) -> None:
    """Refuse algorithms and parameters that Neural Compressor does not know (it would accept them silently).

    Args:
        stanza: Algorithm name -> parameters, as written under `quantization`.
        several: Whether there may be more than one algorithm, or none.

    Raises:
        RecipeError: An unknown algorithm or parameter, or a wrong number of algorithms.
    """
    algorithms = known_algorithms()
    if not several and len(stanza) != 1:
        raise RecipeError(f"key 'quantization' must name one algorithm; got {len(stanza)}: {', '.join(stanza)}")
    for name, parameters in stanza.items():
        if name not in algorithms:
            raise RecipeError(f"unknown key 'quantization.{name}'; {nearest(name, algorithms)}")
        for key in parameters or {}:
            if key not in algorithms[name]:
                raise RecipeError(f"unknown key 'quantization.{name}.{key}'; {nearest(key, algorithms[name])}")


def check_choices(name: str, values: Mapping[str, Any], choices: Mapping[str, tuple], target: str) -> None:
    """Refuse a parameter's value that is none of the known ones.

    Args:
        name: Of the algorithm.
        values: All of its parameters.
        choices: Parameter -> known values, all of one type.
        target: What they are known for.

    Raises:
        RecipeError: Another value.
    """
    for key, known in choices.items():
        if values[key] not in known or isinstance(values[key], bool) != isinstance(known[0], bool):
            said = " or ".join(str(choice).lower() if isinstance(choice, bool) else repr(choice) for choice in known)
            raise RecipeError(f"key 'quantization.{name}.{key}' must be {said} for {target}; got {values[key]!r}")


def int8_options(stanza: Mapping[str, Mapping[str, Any] | None] | None) -> list[QuantizationOptions]:
    """Translate the stanza for the exported file.

    Args:
        stanza: Algorithm name -> parameters, or None for float. Of several algorithms measurements choose one.

    Returns:
        For each algorithm the options for the quantization of exported stages; none where everything stays in float.

    Raises:
        RecipeError: Something that onnxruntime cannot do.
    """
    check_algorithms(stanza or {}, several=True)
    return [_translated(name, given or {}) for name, given in (stanza or {}).items()]


def _translated(name: str, given: Mapping[str, Any]) -> QuantizationOptions:
    if name not in _EXPORTED:
        raise RecipeError(
            f"key 'quantization.{name}' cannot be exported to ONNX; use {' or '.join(map(repr, _EXPORTED))}"
        )
    defaults = known_algorithms()[name]
    values, choices = {**defaults, **given}, _EXPORTED[name]
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
