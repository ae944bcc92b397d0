"""What a search over static choices is held against, and what it finds."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...chain.drop_checks import DropCheck, check_drops, with_standard_error
from ...chain.operating_point import Goal, OperatingPoints
from ...core import distributed
from ...core.batching import batches
from ...cost import count_macs
from ...onnx.session import PartSession
from ...recipe.static_choices import StaticChoice
from ...records import Records
from ...runtime.recorder import BATCH_SIZE
from ...runtime.stages import Stage
from ...sources.run_inputs import RunInputs
from ...targets.onnxruntime import export_whole
from ..backbone import cut_backbone
from ..stages import Build, record_split


@dataclass(frozen=True)
class Baseline:
    """The backbone as it was given, in float and in one piece: what drops and budgets count against.

    Attributes:
        stage: The backbone.
        cost: Per sample, in the recipe's unit.
        answers: int64 (N,) by split, of calibration and test: its predictions.
        truth: int64 (N,) by split: the labels, its predictions where they are unknown.
    """

    stage: Stage
    cost: float
    answers: dict[str, np.ndarray]
    truth: dict[str, np.ndarray]

    def accuracy(self, key: str) -> float:
        """Share of right answers on a split."""
        return float(self.right(key).mean())

    def right(self, key: str) -> np.ndarray:
        """bool (N,): whether it is right."""
        return self.answers[key] == self.truth[key]

    def with_baseline_labels(self, records: Records, key: str) -> Records:
        """Return a split's records with the truth for all stages, this backbone included."""
        return replace(records, labels=self.truth[key])


@dataclass
class StaticVariant:
    """One static choice on its way.

    Attributes:
        choice: What it is.
        chain: Its stages; None before they are made, and once it is out.
        right: bool (N,): whether its backbone alone is right, on calibration samples.
        backbone_cost: Of its backbone alone.
        first_cost: Of the backbone up to its first exit.
        accuracy: Of its stack at the default point, on calibration samples; None where it was not tried.
        cost: Of its stack at the default point.
        seconds: Spent on it.
        why: What became of it.
    """

    choice: StaticChoice
    chain: Build | None = None
    right: np.ndarray | None = None
    backbone_cost: float | None = None
    first_cost: float | None = None
    accuracy: float | None = None
    cost: float | None = None
    seconds: float = 0.0
    why: str = ""


@dataclass
class StaticSearchResult:
    """What the search has found.

    Attributes:
        chain: The best variant's, with the recipe that leads to it alone.
        given: The backbone as it was given.
        variants: All, as the recipe names them.
        best: One of them.
        goals: What its points are tuned for, against its own backbone; one for each goal of the chain's recipe.
        calibration: Its records of that split.
        notes: Goals that it cannot reach, one sentence each.
    """

    chain: Build
    given: Baseline
    variants: list[StaticVariant]
    best: StaticVariant
    calibration: Records
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def test_records(self) -> Records:
        """Make the records that figures are reported from."""
        return self.given.with_baseline_labels(record_split(self.chain, "test"), "test")

    def check_drops(self, points: OperatingPoints, records: Records) -> list[DropCheck]:
        """Hold points against the drops that the recipe allows them, below the backbone as it was given.

        Args:
            points: One for each goal of the chain's recipe.
            records: Of the test samples.
        """
        goals = self.chain.run_inputs.recipe.dynamic_exit.tuning.goals
        return check_drops(points, records, [goal.max_accuracy_drop for goal in goals], self.given.right("test"))

    def figures(self, points: OperatingPoints, judged: Sequence[DropCheck]) -> dict[str, Any]:
        """Return what ``metrics.json`` says of the search.

        Args:
            points: Measured on the test records.
            judged: What `check_drops` says of them.
        """
        given, samples = self.given, len(self.given.right("test"))
        alone = {
            "accuracy": given.accuracy("test"),
            "calibration_accuracy": given.accuracy("calibration"),
            "cost": given.cost,
        }
        rows = [
            {
                "name": point.name,
                "accuracy": point.accuracy,
                "accuracy_drop": alone["accuracy"] - point.accuracy,
                "accuracy_drop_standard_error": each.drop_error,
                "cost_ratio": point.cost / given.cost,
            }
            for point, each in zip(points.points, judged, strict=True)
        ]
        return {
            "cost_unit": points.cost_unit,
            "given": with_standard_error(alone, samples),
            "variants": [self._row(variant) for variant in self.variants],
            "points": [with_standard_error(row, samples) for row in rows],
            "seconds": round(sum(variant.seconds for variant in self.variants), 1),
        }

    def _row(self, variant: StaticVariant) -> dict[str, Any]:
        cost, backbone = variant.cost, variant.backbone_cost
        found = {
            "pruning": variant.choice.names[0],
            "quantization": variant.choice.names[1],
            "backbone_accuracy": None if variant.right is None else float(variant.right.mean()),
            "backbone_cost_ratio": None if backbone is None else backbone / self.given.cost,
            "accuracy": variant.accuracy,
            "cost": cost,
            "cost_ratio": None if cost is None else cost / self.given.cost,
            "seconds": round(variant.seconds, 1),
            "chosen": variant is self.best,
            "why": variant.why,
        }
        samples = len(self.given.right("calibration"))
        return with_standard_error(with_standard_error(found, samples), samples, "backbone_accuracy")


def evaluate_baseline(run_inputs: RunInputs) -> Baseline:
    """Export the backbone as it was given, and ask it on calibration and test samples.

    Args:
        run_inputs: No static pass has run.

    Returns:
        The backbone, its cost in multiply-adds.

    Raises:
        ExportError: It cannot be exported.
    """
    backbone, example = run_inputs.backbone, run_inputs.example
    dims = distributed.run_on_all(lambda: cut_backbone(backbone, example, None)).dims
    part = distributed.run_on_all(lambda: export_whole(backbone, example, dims))
    inputs = backbone.select(example)
    session = PartSession(part, run_inputs.recipe.dynamic_exit.tuning.threads)
    stage = Stage(backbone, part, session, count_macs(backbone, inputs), part, inputs)
    answers, truth = {}, {}
    for key in ("calibration", "test"):
        split = run_inputs.splits[key]
        feeds = [*split.feeds(part.input_names).values()]
        answers[key] = np.concatenate([session.run(*batch).argmax(1) for batch in batches(feeds, BATCH_SIZE)])
        truth[key] = np.where(split.labels < 0, answers[key], split.labels)
    return Baseline(stage, stage.macs, answers, truth)
