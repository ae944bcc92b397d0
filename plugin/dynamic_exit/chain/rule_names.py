"""Names of rules in messages."""

from collections.abc import Iterable


def listed(names: Iterable[str]) -> str:
    """Return names, at least one, as a sentence lists them."""
    *first, last = (f"'{name}'" for name in names)
    return f"{', '.join(first)} or {last}" if first else last
