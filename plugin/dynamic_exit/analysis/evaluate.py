"""Measures a written model on other samples than the run's."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypedDict

import numpy as np

from ..artifact.manifest import read_manifest
from ..chain.drop_checks import standard_error
from ..chain.names import FINAL
from ..chain.operating_point import OperatingPoint
from ..core.batching import named_batches
from ..core.cache import open_cache
from ..data.checks import check_labels, check_same_format, check_samples
from ..data.loading import encode_label_names, load_splits
from ..data.npz_source import read_npz
from ..data.reader import Samples
from ..data.split import Split
from ..errors import DataError, nearest
from ..images import ImageFormat, ImageReading
from ..modeling.auto import AutoDynamicExitModel
from ..recipe.yaml_io import read_recipe
from ..records import Records

logger = logging.getLogger(__name__)


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


def evaluate_folder(folder: Path, data: Path, operating_point: str | None, batch_size: int) -> list[EvaluationRow]:
    """Measure a written model on samples.

    Args:
        folder: Written by a run.
        data: ``.npz`` with inputs and labels, or a recipe, whose test split is used.
        operating_point: Name of one point; None for the backbone and all points.
        batch_size: Samples in one call.

    Returns:
        One row for each point.

    Raises:
        DynamicExitError: The folder, the data or the point cannot be used.
    """
    model = AutoDynamicExitModel.from_pretrained(folder)
    split = load_samples(data, folder)
    check_same_format({"data": split})
    check_labels({"data": split}, len(model.config.manifest.labels), None)
    feeds = split.feeds(model.input_names)
    points = model.operating_points
    chosen = [points.by_name(operating_point)] if operating_point else [points.backbone, *points.points]
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
                "cost_ratio": _cost_ratio(records, point, rates),
                "exit_rates": rates,
                "samples": len(split),
                "accuracy_standard_error": standard_error(accuracy, len(split)),
            }
        )
    return rows


def _cost_ratio(records: Records, point: OperatingPoint, rates: Mapping[str, float]) -> float:
    """Return the mean cost over that of the backbone, at the exit rates that were measured."""
    used = [stage.stage for stage in point.stages]
    kept = records.select([*used, records.stages[-1]])
    paid = kept.stage_table.exit_cost(tuple(range(len(used))))
    return float(np.dot([rates[stage] for stage in kept.stages], paid) / kept.prefix_cost[-1])


def load_samples(data: Path, folder: Path) -> Split:
    """Load samples to evaluate a written model on.

    Args:
        data: ``.npz`` with inputs and labels, or a recipe, whose test split is used.
        folder: Written by a run: labels that are names are matched to those of its model.

    Returns:
        The samples.

    Raises:
        DataError: They cannot be read, or have classes that the model does not have.
    """
    if data.suffix == ".npz":
        samples: dict[str, Samples] = {"data": read_npz(data)}
        found = encode_label_names(samples, lambda: None)
        split = Split("data", *check_samples(*samples["data"], split="data"), found)
    elif data.suffix in (".yaml", ".yml"):
        recipe = read_recipe(data)
        stanza, served = recipe.dynamic_exit.cache, partial(_served_format, folder)
        reading = ImageReading(served, open_cache(stanza.directory, stanza.enabled))
        split = load_splits(recipe.data, recipe.seed, recipe.model, note=_log_note, images=reading)["test"]
    else:
        raise DataError(f"data '{data}' must be an .npz file with inputs and labels, or a recipe")
    names = split.class_names
    return split if names is None else _match_classes(split, names, read_manifest(folder).labels)


def _log_note(note: str) -> None:
    logger.info(f"note: {note}")


def _served_format(folder: Path, size: tuple[int, int] | None) -> ImageFormat:
    """Return the form in which a written folder takes images, whatever their size."""
    from ..artifact.image_processor import read_resizing

    shape = next((each["shape"] for each in read_manifest(folder).inputs or [] if len(each["shape"]) == 3), [3])
    return ImageFormat(1 if shape[0] == 1 else 3, read_resizing(folder))


def _match_classes(split: Split, names: Sequence[str], served: Sequence[str]) -> Split:
    """Number labels that are names as the model does, or refuse classes that it does not have.

    Args:
        split: The samples.
        names: What their labels stand for.
        served: What the model calls its classes.
    """
    unknown = [name for name in names if name not in served]
    if unknown and (len(unknown) < len(names) or len(names) != len(served)):
        hint = nearest(unknown[0], served)[:200]
        raise DataError(f"the samples have a class '{unknown[0]}', which the model does not serve; {hint}")
    if unknown:  # all have other names, as the run itself allows: matched by order
        return split
    place = np.asarray([list(served).index(name) for name in names])
    return replace(split, labels=place[split.labels], class_names=tuple(served))
