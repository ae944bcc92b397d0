"""Batch inference: a written folder answers many pictures, texts or arrays without labels, into parquet files.

It needs the extra `datasets`; pictures and texts need the extra `serve` too.
"""

from typing import TYPE_CHECKING

from ..core.lazy import lazy_exports

if TYPE_CHECKING:
    from .answering import predict
    from .options import PredictionOptions
    from .summary import PredictionSummary

__all__ = ["PredictionOptions", "PredictionSummary", "predict"]

# on first use: pyarrow is no dependency of the package
__getattr__, __dir__ = lazy_exports(
    __name__,
    {"answering": ("predict",), "options": ("PredictionOptions",), "summary": ("PredictionSummary",)},
)
