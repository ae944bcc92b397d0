"""Is a stream still like its reference: tests that never end, and the statistics of inputs that they are shown."""

from .conformal import ConformalRanks, Martingale
from .input_reference import InputReference, StatisticReference, read_inputs
from .input_statistics import STATISTICS, Signal, Tokens
from .input_watch import InputWatch
from .watch import Watch

__all__ = [
    "STATISTICS",
    "ConformalRanks",
    "InputReference",
    "InputWatch",
    "Martingale",
    "Signal",
    "StatisticReference",
    "Tokens",
    "Watch",
    "read_inputs",
]
