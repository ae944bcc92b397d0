"""Records joined along samples or along stages, and made alike in how many classes they keep."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..errors import RecordsError
from .records import Records

logger = logging.getLogger(__name__)


def keep_as_many(records: Records, kept: int) -> Records:
    """Return records that keep no more than so many classes: evidence of more would not be that of others."""
    if records.kept <= kept:
        return records
    logger.info(f"searched with {kept} of {records.kept} kept classes, as many as all records keep")
    return replace(
        records,
        topk_classes=records.topk_classes[:, :, :kept],
        topk_probabilities=records.topk_probabilities[:, :, :kept],
    )


def join_samples(parts: Sequence[Records]) -> Records:
    """Return the records of all samples of several parts, one after the other; see `Records.join`."""
    k = min(part.kept for part in parts)
    columns = parts[0].stage_table.columns()
    for part in parts[1:]:
        others = part.stage_table.columns()
        if any(not np.array_equal(others[name], column) for name, column in columns.items()):
            raise RecordsError("only records of the same stages, positions and costs can be joined along samples")
    return Records(
        labels=np.concatenate([part.labels for part in parts]),
        topk_classes=np.concatenate([part.topk_classes[:, :, :k] for part in parts], axis=1),
        topk_probabilities=np.concatenate([part.topk_probabilities[:, :, :k] for part in parts], axis=1),
        cost_unit=parts[0].cost_unit,
        groups=_joined_groups(parts),
        **columns,
    )


def _joined_groups(parts: Sequence[Records]) -> np.ndarray | None:
    # groups of some parts alone would make others of the true classes of the rest
    groups = [part.groups for part in parts if part.groups is not None]
    if groups and len(groups) < len(parts):
        raise RecordsError("some of the parts have groups of samples and others none; give groups for all or none")
    return np.concatenate(groups) if groups else None


def join_stages(parts: Sequence[Records]) -> Records:
    """Return the records of all stages of several parts, in chain order; see `Records.join`."""
    k = min(part.kept for part in parts)
    first = parts[0]
    if any(not np.array_equal(part.labels, first.labels) for part in parts[1:]):
        raise RecordsError("only records of the same samples can be joined along stages; the labels differ")
    # the first part's final stays, the others' finals are the same backbone again
    chosen = [(part, s) for part in parts for s in range(len(part.stages) - 1)]
    chosen.sort(key=lambda item: (item[0].positions[item[1]], item[0].own_cost[item[1]]))
    chosen.append((first, len(first.stages) - 1))
    places = {item: place for place, item in enumerate(chosen)}
    linked = any(part.requires is not None for part in parts)
    positions = np.array([part.positions[s] for part, s in chosen], dtype=np.int64)
    positions[-1] = max(part.positions[-1] for part in parts)
    return Records(
        labels=first.labels,
        stages=tuple(part.stages[s] for part, s in chosen),
        kinds=tuple(part.kinds[s] for part, s in chosen),
        positions=positions,
        topk_classes=np.stack([part.topk_classes[s, :, :k] for part, s in chosen]),
        topk_probabilities=np.stack([part.topk_probabilities[s, :, :k] for part, s in chosen]),
        own_cost=np.array([part.own_cost[s] for part, s in chosen]),
        prefix_cost=np.array([part.prefix_cost[s] for part, s in chosen]),
        cost_unit=first.cost_unit,
        groups=first.groups,
        requires=np.array([_joined_requirement(item, places) for item in chosen], dtype=np.int64) if linked else None,
    )


def _joined_requirement(item: tuple[Records, int], places: dict[tuple[Records, int], int]) -> int:
    part, stage = item
    return -1 if part.requires is None or part.requires[stage] < 0 else places[part, int(part.requires[stage])]
