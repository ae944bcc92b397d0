"""The search for stages and thresholds that reach goals on the samples at hand at the least cost."""

from typing import TYPE_CHECKING

from ..core.lazy import lazy_exports

if TYPE_CHECKING:
    from .beam import shortlist
    from .options import SearchOptions
    from .solver import Search

__all__ = ["Search", "SearchOptions", "shortlist"]

__getattr__, __dir__ = lazy_exports(
    __name__, {"beam": ("shortlist",), "options": ("SearchOptions",), "solver": ("Search",)}
)
