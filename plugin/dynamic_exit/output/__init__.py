"""The folder that a run writes: its lock and log, what is kept until it is whole, and how it takes its place."""

from typing import TYPE_CHECKING

from ..core.lazy import lazy_exports

if TYPE_CHECKING:
    from .workspace import Workspace

__all__ = ["Workspace"]

__getattr__, __dir__ = lazy_exports(__name__, {"workspace": ("Workspace",)})
