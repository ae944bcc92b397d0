"""Exits that build on a saver: chains that hold them hold the saver too, and it runs.

The records' cost rule takes each stage's answer as it is, whichever others are in use. An exit that needs a saver
answers as recorded only where that saver ran, so a chain with it must hold the saver; a threshold of 1, which no
confidence is above, lets nobody leave there. The path finds chains without looking at such rules. It is therefore asked
twice: without those exits, and on records in which the saver always runs.
"""

from collections.abc import Iterable

import numpy as np

from ..chain.thresholds import NEVER_EXIT
from ..records import Records

Stages = tuple[int, ...]


def required_savers(records: Records, stages: Iterable[int]) -> set[int]:
    """Return the savers that stages of a chain need.

    Args:
        records: The records.
        stages: Places in the records' chain.

    Returns:
        Places in the records' chain.
    """
    return set() if records.requires is None else {int(records.requires[s]) for s in stages if records.requires[s] >= 0}


def is_valid_chain(records: Records, stages: Stages) -> bool:
    """Whether a chain holds what its stages need."""
    return required_savers(records, stages) <= set(stages)


def with_saver_always_on(records: Records, saver: int) -> Records:
    """Return records in which a saver, the last of the chain, always runs.

    What it costs stands before every stage behind it, so that it costs the same whether it is in use or not: the cost
    of a chain here is the cost of the same chain with the saver in it on the records themselves.

    Args:
        records: The records.
        saver: Its place in the chain.

    Returns:
        Records with other costs; their baseline holds the saver too.
    """
    own, prefix = records.own_cost.copy(), records.prefix_cost.copy()
    prefix[saver:] += own[saver]
    own[saver] = 0.0
    return records.with_costs(own, prefix)


def insert_saver(saver: int, stages: Stages, thresholds: np.ndarray) -> tuple[Stages, np.ndarray]:
    """Put a saver into a chain, where nobody leaves.

    Args:
        saver: Its place in the records' chain.
        stages: The chain, rising.
        thresholds: float32, one for each.

    Returns:
        The chain with it and its thresholds; both as they came where it is there already.
    """
    if saver in stages:
        return stages, thresholds
    place = sum(stage < saver for stage in stages)
    return (*stages[:place], saver, *stages[place:]), np.insert(thresholds, place, NEVER_EXIT).astype(np.float32)
