"""Records: what every stage of a chain answers for every sample, what it costs, and the file that holds both."""

from .records import Records
from .stage_table import StageTable
from .top_k import top_k

__all__ = ["Records", "StageTable", "top_k"]
