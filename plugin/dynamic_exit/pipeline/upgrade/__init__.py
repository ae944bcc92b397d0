"""The upgrade: a larger backbone behind the model of today, at what that costs.

`search_backbones` makes a chain with each backbone and keeps the one that is right most often at the budget;
`UpgradeResult` compares its points with the model of today.
"""

from .result import Today, UpgradeResult
from .search import search_backbones

__all__ = ["Today", "UpgradeResult", "search_backbones"]
