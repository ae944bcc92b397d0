"""The cost of a stage: multiply-adds counted by torch, or measured seconds."""

from .latency import ROUND_SECONDS, Latency, measure_latency
from .macs import count_macs, node_macs

__all__ = ["ROUND_SECONDS", "Latency", "count_macs", "measure_latency", "node_macs"]
