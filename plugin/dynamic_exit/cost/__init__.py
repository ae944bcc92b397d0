"""The cost of a stage: multiply-adds counted by torch, or measured seconds; and what a chain of stages costs."""

from .chain_cost import ChainCost, ExitCost, chain_cost
from .latency import ROUND_SECONDS, Latency, is_measuring, measure_latency
from .macs import count_macs, node_macs

__all__ = [
    "ROUND_SECONDS",
    "ChainCost",
    "ExitCost",
    "Latency",
    "chain_cost",
    "count_macs",
    "is_measuring",
    "measure_latency",
    "node_macs",
]
