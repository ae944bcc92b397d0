"""Keys of a recipe that name an item of a registry, whose stanza may have keys of its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import BeforeValidator, ValidationInfo
from pydantic_core import PydanticKnownError

from ..core.registry import Registry
from .stanza import Stanza, refuse

_SOURCES = Path(__file__).parents[1] / "sources"


class HasStanza(Protocol):
    """An item with the stanza of its keys."""

    @property
    def stanza(self) -> type[Stanza]:
        """Model of the keys."""


Kind = TypeVar("Kind", bound=HasStanza)


def check_registered(name: object, registry: Registry[Kind]) -> str:
    """Return a registered name; any other value is refused with the names, or with why its item could not be loaded."""
    if isinstance(name, str) and name in registry:
        return name
    if reason := registry.why_broken(str(name)):
        raise refuse(f"names the {registry.kind} '{name}', which could not be loaded: {reason}")
    *first, last = map(repr, registry.names())
    raise PydanticKnownError("literal_error", {"expected": f"{', '.join(first)} or {last}"})


def add_names(schema: dict[str, Any], registry: Registry[Kind]) -> None:
    """Add all names of a registry to the JSON schema of a key that takes one of them."""
    schema["enum"] = list(registry.names())


def list_built_in(folder: str, *first: str) -> dict[str, str]:
    """Return the built-in kinds of a folder of `sources`, for a `Registry`: each file ``NAME_source.py`` has a `KIND`.

    Args:
        folder: ``models`` or ``data``.
        first: Names in the order in which messages list them, before the names of other files.
    """
    others = sorted(path.stem.removesuffix("_source") for path in (_SOURCES / folder).glob("*_source.py"))
    return {name: f"dynamic_exit.sources.{folder}.{name}_source:KIND" for name in dict.fromkeys([*first, *others])}


def stanza_of_kind(registry: Registry[Kind]) -> BeforeValidator:
    """Return a validator for the stanza of the item that the key `source` names."""

    def validate(values: Any, info: ValidationInfo) -> Any:
        name = values.get("source") if isinstance(values, Mapping) else None
        if not isinstance(name, str) or name not in registry:
            return values
        return registry.find(name).stanza.model_validate(values, context=info.context)

    return BeforeValidator(validate)
