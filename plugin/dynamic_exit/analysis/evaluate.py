"""Measures a written model on other samples than the run's."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

import numpy as np

from ..chain.names import FINAL
from ..core.batching import named_batches
from ..data.checks import check_labels, check_same_format
from ..guarantee.drop_checks import standard_error
from ..modeling.auto import AutoDynamicExitModel
from ..points.operating_point import BACKBONE, OperatingPoint
from ..records import Records
from .samples import load_samples


class EvaluationRow(TypedDict):
    """One operating point, or the backbone, on samples.

    Attributes:
        name: The point's, or ``backbone``.
        accuracy: Share of correct answers, 0..1.
        cost_ratio: Mean cost over that of the backbone alone: costs of the folder's records, at these exit rates.
        exit_rates: Share of samples that each stage answers, ``final`` included.
        samples: How many there are.
        accuracy_standard_error: Of the accuracy.
    """

    name: str
    accuracy: float
    cost_ratio: float
    exit_rates: dict[str, float]
    samples: int
    accuracy_standard_error: float


def evaluate_folder(
    folder: Path, data: Path, operating_point: str | None, batch_size: int, trust_remote_code: bool = False
) -> list[EvaluationRow]:
    """Measure a written model on samples.

    Args:
        folder: Written by a run.
        data: As for `load_samples`.
        operating_point: Name of one point; None for the backbone and all points.
        batch_size: Samples in one call.
        trust_remote_code: As for `load_samples`.

    Returns:
        One row for each point.

    Raises:
        DynamicExitError: The folder, the data or the point cannot be used.
    """
    model = AutoDynamicExitModel.from_pretrained(folder)
    split = load_samples(data, folder, trust_remote_code)
    check_same_format({"data": split})
    check_labels({"data": split}, len(model.config.manifest.labels), None)
    feeds = split.feeds(model.input_names)
    points = model.operating_points
    everything = sorted(points.available, key=lambda point: point.name != BACKBONE)  # the backbone first
    chosen = [points.by_name(operating_point)] if operating_point else everything
    records = Records.read(folder / "records.npz")
    rows: list[EvaluationRow] = []
    for point in chosen:
        model.set_operating_point(point.name)
        answers = [model(**batch) for batch in named_batches(feeds, batch_size)]
        predictions = np.concatenate([answer.logits.argmax(1) for answer in answers])
        exits = np.concatenate([answer.exit_index for answer in answers])
        rates = {stage: float((exits == i).mean()) for i, stage in enumerate((*model.stages, FINAL))}
        accuracy = float((predictions == split.labels).mean())
        rows.append(
            {
                "name": point.name,
                "accuracy": accuracy,
                "cost_ratio": _cost_ratio(records, point, rates, points.last_stage),
                "exit_rates": rates,
                "samples": len(split),
                "accuracy_standard_error": standard_error(accuracy, len(split)),
            }
        )
    return rows


def _cost_ratio(records: Records, point: OperatingPoint, rates: Mapping[str, float], last_stage: str | None) -> float:
    """Return the mean cost over that of the backbone, at the exit rates that were measured."""
    stages = [*(stage.stage for stage in point.stages), last_stage or FINAL]
    kept = records.select(list(dict.fromkeys([*stages, FINAL])))
    paid = kept.stage_table.exit_cost(tuple(range(len(kept.stages) - 1)))[: len(stages)]
    return float(np.dot([rates[stage] for stage in (*stages[:-1], FINAL)], paid) / kept.prefix_cost[-1])
