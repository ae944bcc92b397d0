"""Table of all registered algorithms with their parameters, defaults and ranges."""

import inspect
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import WithJsonSchema
from pydantic.fields import FieldInfo

from ...passes import Stanza, registered_passes
from ...passes.quantization.config import known_algorithms
from .plan import DYNAMIC_EXIT
from .registration import DynamicExitConfig

_SIGNS = {Ge: ("≥", "ge"), Gt: (">", "gt"), Le: ("≤", "le"), Lt: ("<", "lt"), MinLen: ("at least", "min_length")}


def describe_algorithms() -> dict[str, dict[str, Any]]:
    """Return all registered algorithms, the passes first.

    Returns:
        Name -> ``from``, ``summary`` and ``parameters``, each with ``name``, ``default``, ``range`` and ``meaning``.
    """
    table: dict[str, dict[str, Any]] = {
        name: {"from": info.origin, "summary": info.summary, "parameters": [*_fields(info.stanza)]}
        for name, info in registered_passes().items()
    }
    stanza = DynamicExitConfig.stanza_class
    summary = inspect.getdoc(stanza) or ""
    table[DYNAMIC_EXIT] = {
        "from": "dynamic_exit",
        "summary": summary.partition("\n")[0],
        "parameters": [*_fields(stanza)],
    }
    for name, parameters in known_algorithms().items():
        if name not in table:
            rows = [
                {"name": key, "default": _show(default), "range": "", "meaning": ""}
                for key, default in parameters.items()
            ]
            table[name] = {"from": "Neural Compressor", "summary": "under `quantization`", "parameters": rows}
    return table


def _fields(stanza: type[Stanza], prefix: str = "") -> Iterator[dict[str, str]]:
    for name, info in stanza.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, Stanza):
            yield from _fields(kind, f"{prefix}{name}.")
            continue
        default = "required" if info.is_required() else _show(info.get_default(call_default_factory=True))
        yield {
            "name": prefix + name,
            "default": default,
            "range": _range(info),
            "meaning": info.description or "",
        }


def _range(info: FieldInfo) -> str:
    limits = [
        f"{_SIGNS[type(limit)][0]} {getattr(limit, _SIGNS[type(limit)][1])}"
        for limit in info.metadata
        if type(limit) in _SIGNS
    ]
    # a name that may be left out has its schema inside the union
    inner = [each for kind in typing.get_args(info.annotation) for each in getattr(kind, "__metadata__", ())]
    named = [value for each in (*info.metadata, *inner) if isinstance(each, WithJsonSchema) for value in _enum(each)]
    choices = [repr(value) for value in (*typing.get_args(info.annotation), *named) if isinstance(value, str)]
    return " or ".join(choices) if choices else ", ".join(limits)


def _enum(schema: WithJsonSchema) -> Sequence[object]:
    """Return the values that a schema of names in a registry allows."""
    return (schema.json_schema or {}).get("enum", ())


def _show(value: Any) -> str:
    return "required" if value is inspect.Parameter.empty else repr(value)
