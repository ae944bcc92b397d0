"""Keys of a recipe that name an item of a registry, whose stanza may have keys of its own."""

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from pydantic import BeforeValidator, ValidationInfo
from pydantic_core import PydanticKnownError

from ..core.registry import Registry
from .stanza import Stanza, refuse


class HasStanza(Protocol):
    """An item with the stanza of its keys."""

    @property
    def stanza(self) -> type[Stanza]:
        """Model of the keys."""


Item = TypeVar("Item")
Kind = TypeVar("Kind", bound=HasStanza)


def check_registered(name: object, registry: Registry[Item], others: Sequence[str] = ()) -> str:
    """Return a registered name; any other value is refused with the names, or with why its item could not be loaded.

    Args:
        name: As given.
        registry: Of the items.
        others: Names that are allowed besides.
    """
    if isinstance(name, str) and (name in others or name in registry):
        return name
    if reason := registry.why_broken(str(name)):
        raise refuse(f"names the {registry.kind} '{name}', which could not be loaded: {reason}")
    *first, last = map(repr, [*others, *registry.names()])
    raise PydanticKnownError("literal_error", {"expected": f"{', '.join(first)} or {last}" if first else last})


def add_names(schema: dict[str, Any], registry: Registry[Item], others: Sequence[str] = ()) -> None:
    """Add all names of a registry, and others, to the JSON schema of a key that takes one of them."""
    schema["enum"] = [*others, *registry.names()]


def find_stanza(registry: Registry[Kind], name: str, plain: type[Stanza] | None = None) -> type[Stanza]:
    """Return the stanza of an item; that of a source of this package without importing what the source needs.

    Args:
        registry: Of the items.
        name: Of a registered item.
        plain: The stanza of built-in sources, ``NAME_source.py``, that have no keys of their own in a file
            ``NAME_keys.py``, as its `STANZA`; None imports the item.
    """
    module = registry.built_in_module(name)
    if plain is None or module is None:
        return registry.find(name).stanza
    keys = f"{module.removesuffix('_source')}_keys"
    if importlib.util.find_spec(keys) is None:
        return plain
    stanza: type[Stanza] = importlib.import_module(keys).STANZA
    return stanza


def stanza_of_kind(
    registry: Registry[Kind], key: str = "source", default: str | None = None, plain: type[Stanza] | None = None
) -> BeforeValidator:
    """Return a validator for the stanza of the item that a key names.

    Args:
        registry: Of the items.
        key: Of the stanza.
        default: The item where it is left out.
        plain: As for `find_stanza`.
    """

    def validate(values: Any, info: ValidationInfo) -> Any:
        name = values.get(key, default) if isinstance(values, Mapping) else None
        if not isinstance(name, str) or name not in registry:
            return values
        return find_stanza(registry, name, plain).model_validate(values, context=info.context)

    return BeforeValidator(validate)
