"""Keys of a recipe that name an item of a registry, whose stanza may have keys of its own."""

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


def stanza_of_kind(registry: Registry[Kind], key: str = "source", default: str | None = None) -> BeforeValidator:
    """Return a validator for the stanza of the item that a key names.

    Args:
        registry: Of the items.
        key: Of the stanza.
        default: The item where it is left out.
    """

    def validate(values: Any, info: ValidationInfo) -> Any:
        name = values.get(key, default) if isinstance(values, Mapping) else None
        if not isinstance(name, str) or name not in registry:
            return values
        return registry.find(name).stanza.model_validate(values, context=info.context)

    return BeforeValidator(validate)
