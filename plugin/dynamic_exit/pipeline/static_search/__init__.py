"""The search over static choices: which of them, with which savers and exits, is best."""

from typing import TYPE_CHECKING

from ...core.lazy import lazy_exports

if TYPE_CHECKING:
    from .results import StaticSearchResult
    from .search import search_static

__all__ = ["StaticSearchResult", "search_static"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "results": ("StaticSearchResult",),
        "search": ("search_static",),
    },
)
