"""Records: what every stage of a chain answers for every sample, what it costs, and the file that holds both."""

from .records import Records
from .splits import Parts, check_tunable, folds, part_records, split, subsample
from .stage_table import StageTable
from .top_k import top_k

__all__ = ["Parts", "Records", "StageTable", "check_tunable", "folds", "part_records", "split", "subsample", "top_k"]
