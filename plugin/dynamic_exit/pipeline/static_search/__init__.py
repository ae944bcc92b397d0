"""The search over static choices: which of them, with which savers and exits, is best."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .results import StaticSearchResult
    from .search import search_static

__all__ = ["StaticSearchResult", "search_static"]

_MODULES = {
    "StaticSearchResult": ".results",
    "search_static": ".search",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name], __name__), name)
