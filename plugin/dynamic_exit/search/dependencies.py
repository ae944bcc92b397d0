"""Exits that require a saver: a chain that holds them must hold the saver too, and run it.

The cost rule of the records takes the answers of each stage as they are, whichever others are in use. An exit that
requires a saver answers as recorded only where that saver ran, so a chain with it must hold the saver, if need be with
the threshold `NEVER_EXIT`. The tradeoff path ignores such rules. It is therefore run twice: without those exits, and on
records in which the saver always runs.
"""

import numpy as np

from ..chain.thresholds import NEVER_EXIT
from ..records import Records
from ..records.stage_table import Stages


def with_saver_always_on(records: Records, saver: int) -> Records:
    """Return records in which a saver, the last of the chain, always runs.

    Its cost is moved to the prefix of all stages behind it, so that it costs the same whether it is in use or not: the
    cost of a chain here is the cost of the same chain with the saver in it on the original records.

    Args:
        records: The records.
        saver: Index of the saver.

    Returns:
        Records with other costs; their baseline includes the saver.
    """
    own, prefix = records.own_cost.copy(), records.prefix_cost.copy()
    prefix[saver:] += own[saver]
    own[saver] = 0.0
    return records.with_costs(own, prefix)


def insert_saver(saver: int, stages: Stages, thresholds: np.ndarray) -> tuple[Stages, np.ndarray]:
    """Insert a saver at which no sample exits into a chain.

    Args:
        saver: Index of the saver.
        stages: The chain, rising.
        thresholds: float32, one per stage.

    Returns:
        The chain with the saver and its thresholds; both unchanged if it is there already.
    """
    if saver in stages:
        return stages, thresholds
    place = sum(stage < saver for stage in stages)
    return (*stages[:place], saver, *stages[place:]), np.insert(thresholds, place, NEVER_EXIT).astype(np.float32)
