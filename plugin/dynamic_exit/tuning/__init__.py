"""Tuning: operating points that keep their goals on samples that the search has not seen."""

from typing import TYPE_CHECKING

from ..core.lazy import lazy_exports

if TYPE_CHECKING:
    from .optimizer import DEFAULT_DROPS, front, optimize, tune, tune_file

__all__ = ["DEFAULT_DROPS", "front", "optimize", "tune", "tune_file"]

__getattr__, __dir__ = lazy_exports(
    __name__, {"optimizer": ("DEFAULT_DROPS", "front", "optimize", "tune", "tune_file")}
)
