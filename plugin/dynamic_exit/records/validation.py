"""Checks of records: every malformed array is refused with its name, what came in and what to do."""

from typing import TYPE_CHECKING

import numpy as np

from ..errors import RecordsError, nearest
from .stage_table import StageTable

if TYPE_CHECKING:
    from .records import Records

KINDS = ("saver", "exit", "final")
COST_UNITS = ("macs", "seconds")
UNKNOWN_LABEL = -1
CHUNK_ROWS = 1 << 16
# a softmax in float32 may exceed 1 by rounding; anything beyond is no probability
PROBABILITY_SLACK = 1e-6


def check_shapes(records: "Records") -> None:
    """Check types and shapes.

    Args:
        records: The records under construction.

    Raises:
        RecordsError: An array has another dtype or shape than the format says.
    """
    count = len(records.stages)
    if count == 0:
        raise RecordsError("the records hold no stage; at least the final is needed")
    expected: dict[str, tuple[type[np.generic], tuple[int, ...] | None, int]] = {
        "labels": (np.int64, None, 1),
        "positions": (np.int64, (count,), 1),
        "topk_classes": (np.int32, None, 3),
        "topk_probabilities": (np.float32, None, 3),
        "own_cost": (np.float64, (count,), 1),
        "prefix_cost": (np.float64, (count,), 1),
    }
    if records.requires is not None:
        expected["requires"] = (np.int64, (count,), 1)
    if records.groups is not None:
        expected["groups"] = (np.int64, None, 1)
    for name, (dtype, shape, ndim) in expected.items():
        array = getattr(records, name)
        if not isinstance(array, np.ndarray) or array.dtype != dtype:
            came = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise RecordsError(f"'{name}' must be an array of {np.dtype(dtype)}; got {came}")
        if array.ndim != ndim or (shape is not None and array.shape != shape):
            form = f"of shape {shape}, one per stage" if shape else f"of {ndim} dimension{'s' if ndim > 1 else ''}"
            raise RecordsError(f"'{name}' must be {form}; got shape {array.shape}")
    if len(records.kinds) != count:
        raise RecordsError(f"'kinds' must name one kind per stage; got {len(records.kinds)} for {count} stages")
    samples = len(records.labels)
    if samples == 0:
        raise RecordsError("the records hold no sample; at least one is needed")
    for name in ("topk_classes", "topk_probabilities"):
        shape = getattr(records, name).shape
        if shape[:2] != (count, samples) or shape[2] < 1 or shape[2] != records.topk_classes.shape[2]:
            raise RecordsError(
                f"'{name}' must be of shape (stages, samples, kept classes) = ({count}, {samples}, K >= 1); got {shape}"
            )


def check_stages(table: StageTable) -> None:
    """Check names, kinds, positions and required savers.

    Args:
        table: The stages.

    Raises:
        RecordsError: The stages do not form one chain that ends in one final.
    """
    stages, kinds, positions = table.names, table.kinds, table.positions
    twice = [name for i, name in enumerate(stages) if name in stages[:i]]
    if twice:
        raise RecordsError(f"the stage name '{twice[0]}' comes twice; names must be unique")
    if "" in stages:
        raise RecordsError("a stage has an empty name; give every stage one")
    for name, kind in zip(stages, kinds, strict=True):
        if kind not in KINDS:
            raise RecordsError(f"stage '{name}' is of kind '{kind}'; {nearest(kind, KINDS)}")
    if kinds.count("final") != 1 or kinds[-1] != "final":
        raise RecordsError(f"exactly one stage must be of kind 'final', and be the last; got kinds {', '.join(kinds)}")
    ranks = [KINDS.index(kind) for kind in kinds]
    if ranks != sorted(ranks):
        raise RecordsError(f"stages must come in chain order, savers, exits, final; got kinds {', '.join(kinds)}")
    for name, kind, position in zip(stages, kinds, positions.tolist(), strict=True):
        if (kind == "saver") != (position == -1) or position < -1:
            allowed = "-1" if kind == "saver" else "0 or more"
            raise RecordsError(f"'positions' must be {allowed} for the {kind} '{name}'; got {position}")
    _check_requires(table)
    exits = positions[[kind == "exit" for kind in kinds]]
    if (np.diff(exits) < 0).any():
        raise RecordsError(f"exits must come in the order of their positions; got {exits.tolist()}")
    if len(exits) and positions[-1] <= exits[-1]:
        raise RecordsError(f"the final's position must be above the last exit's, {exits[-1]}; got {positions[-1]}")


def _check_requires(table: StageTable) -> None:
    if table.requires is None:
        return
    for name, kind, place in zip(table.names, table.kinds, table.requires.tolist(), strict=True):
        if place == -1:
            continue
        if kind != "exit" or not 0 <= place < table.kinds.count("saver"):
            raise RecordsError(
                f"'requires' is the index of an exit's saver, or -1; got {place} for the {kind} '{name}'"
            )
    if len(set(table.requires.tolist()) - {-1}) > 1:
        raise RecordsError(f"'requires' must name one saver for all exits that need one; got {table.requires.tolist()}")


def check_costs(table: StageTable, cost_unit: str) -> None:
    """Check the costs.

    Args:
        table: The stages.
        cost_unit: Unit of their costs.

    Raises:
        RecordsError: The unit is unknown, or a cost is negative, not finite or not that of its kind.
    """
    if cost_unit not in COST_UNITS:
        raise RecordsError(f"'cost_unit' is '{cost_unit}'; {nearest(cost_unit, COST_UNITS)}")
    for name in ("own_cost", "prefix_cost"):
        for stage, value in zip(table.names, getattr(table, name).tolist(), strict=True):
            if not (np.isfinite(value) and value >= 0):
                raise RecordsError(f"'{name}' of '{stage}' must be a number of 0 or more; got {value}")
    for stage, kind, own, prefix in zip(
        table.names, table.kinds, table.own_cost.tolist(), table.prefix_cost.tolist(), strict=True
    ):
        if kind == "saver" and prefix != 0:
            raise RecordsError(f"'prefix_cost' of the saver '{stage}' must be 0, it needs no backbone; got {prefix}")
        if kind == "final" and own != 0:
            raise RecordsError(f"'own_cost' of the final must be 0, its cost is the backbone's prefix; got {own}")
        if kind == "final" and prefix == 0:
            raise RecordsError("'prefix_cost' of the final must be above 0, it is the whole backbone; got 0")


def check_answers(records: "Records") -> None:
    """Check labels, kept classes and probabilities in slices of rows, so that memory-mapped files stay mapped.

    Args:
        records: The records under construction.

    Raises:
        RecordsError: An answer is not a ranked list of classes with probabilities.
    """
    labels = records.labels
    if labels.min() < UNKNOWN_LABEL:
        raise RecordsError(f"'labels' must be classes from 0, or -1 where unknown; got {labels.min()}")
    groups = records.groups
    if groups is not None and (len(groups) != len(labels) or groups.min() < 0):
        least = groups.min() if len(groups) else 0
        raise RecordsError(
            f"'groups' must give each of {len(labels)} samples a group from 0; got {len(groups)} from {least}"
        )
    for start in range(0, len(labels), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        for s, stage in enumerate(records.stages):
            _check_chunk(stage, records.topk_classes[s, rows], records.topk_probabilities[s, rows], start)


def _check_chunk(stage: str, classes: np.ndarray, probabilities: np.ndarray, start: int) -> None:
    # the negated comparison also catches NaN
    inside = (probabilities >= 0) & (probabilities <= 1 + PROBABILITY_SLACK)
    if not inside.all():
        row, k = np.argwhere(~inside)[0]
        raise RecordsError(
            f"'topk_probabilities' of '{stage}', sample {start + row}, must be within 0 and 1; "
            f"got {probabilities[row, k]}"
        )
    rising = (probabilities[:, 1:] > probabilities[:, :-1]).any(axis=1)
    if rising.any():
        row = int(rising.argmax())
        raise RecordsError(
            f"'topk_probabilities' of '{stage}', sample {start + row}, must not rise, most probable first; "
            f"got {probabilities[row].tolist()}"
        )
    if classes.min() < 0:
        row = int((classes < 0).any(axis=1).argmax())
        raise RecordsError(
            f"'topk_classes' of '{stage}', sample {start + row}, must be classes from 0; got {classes[row].tolist()}"
        )
    for k in range(1, classes.shape[1]):
        # a class may repeat to fill unused places, but must not count twice
        again = (classes[:, k, None] == classes[:, :k]).any(axis=1) & (probabilities[:, k] > 0)
        if again.any():
            row = int(again.argmax())
            raise RecordsError(
                f"'topk_classes' of '{stage}', sample {start + row}, names a class twice: {classes[row].tolist()}; "
                "keep each once"
            )
