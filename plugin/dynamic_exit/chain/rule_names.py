"""Names of rules in recipes and files."""

from collections.abc import Callable, Iterable
from typing import Any

from pydantic_core import PydanticCustomError

from ..core.registry import Registry


def listed(names: Iterable[str]) -> str:
    """Return names, at least one, as a sentence lists them."""
    *first, last = (f"'{name}'" for name in names)
    return f"{', '.join(first)} or {last}" if first else last


def known_name(rules: Registry[Any], *others: str) -> Callable[[str], str]:
    """Return a pydantic validator of the names that a registry knows.

    Args:
        rules: The registry.
        others: Further names that are accepted.
    """

    def check(name: str) -> str:
        if name not in others and name not in rules:
            expected = {"expected": listed((*others, *rules.names()))}
            raise PydanticCustomError("literal_error", "Input should be {expected}", expected)
        return name

    return check
