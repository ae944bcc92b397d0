"""ROCKET and MiniRocket: random or fixed convolutions of series, a ridge classifier, and pruning of the kernels.

`fit_rocket` returns a classifier of plain torch operators that holds the kernels it needs alone.
"""

from typing import TYPE_CHECKING

from .....core.lazy import lazy_exports

if TYPE_CHECKING:
    from .classifier import RocketClassifier
    from .fit import FeatureTable, RocketFit, RocketOptions, compute_table, fit_rocket, fit_table
    from .minirocket_features import MiniRocketFeatures
    from .rocket_features import RocketFeatures

__all__ = [
    "FeatureTable",
    "MiniRocketFeatures",
    "RocketClassifier",
    "RocketFeatures",
    "RocketFit",
    "RocketOptions",
    "compute_table",
    "fit_rocket",
    "fit_table",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "classifier": ("RocketClassifier",),
        "fit": ("FeatureTable", "RocketFit", "RocketOptions", "compute_table", "fit_rocket", "fit_table"),
        "minirocket_features": ("MiniRocketFeatures",),
        "rocket_features": ("RocketFeatures",),
    },
)
