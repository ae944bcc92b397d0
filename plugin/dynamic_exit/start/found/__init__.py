"""Kinds of data, one a file: each finds out whether a path is of its kind, and what it holds."""

from typing import TYPE_CHECKING

from ...core.lazy import lazy_exports

if TYPE_CHECKING:
    from .base import DataRequest, FoundData
    from .kinds import find_data

__all__ = ["DataRequest", "FoundData", "find_data"]

__getattr__, __dir__ = lazy_exports(__name__, {"base": ("DataRequest", "FoundData"), "kinds": ("find_data",)})
