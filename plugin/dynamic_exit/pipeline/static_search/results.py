"""The baseline of the static search, its variants, and its result."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ...core import distributed
from ...core.batching import DEFAULT_BATCH_SIZE, batches
from ...cost import count_macs
from ...data.run_inputs import RunInputs
from ...guarantee.drop_checks import DropCheck, check_drops, standard_error
from ...onnx.session import PartSession
from ...points.goal import Goal
from ...points.operating_point import OperatingPoints
from ...recipe.static_choices import StaticChoice
from ...records import Records
from ...report.metrics import BaselineFigures, StaticPointFigures, StaticSearchFigures, StaticVariantFigures
from ...runtime.stages import Stage
from ...targets.onnxruntime import export_whole
from ..backbone import cut_backbone
from ..stages import Build


@dataclass(frozen=True)
class Baseline:
    """The backbone as it came, in float and in one piece: drops and budgets of the recipe are relative to it.

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
        """Share of correct answers on a split."""
        return float(self.correct(key).mean())

    def correct(self, key: str) -> np.ndarray:
        """bool (N,): where it is correct on a split."""
        return self.answers[key] == self.truth[key]

    def with_baseline_labels(self, records: Records, key: str) -> Records:
        """Return a split's records with this backbone's predictions as labels where labels are unknown."""
        return replace(records, labels=self.truth[key])


def evaluate_baseline(run_inputs: RunInputs) -> Baseline:
    """Export the backbone as it came, and run it on calibration and test samples.

    Args:
        run_inputs: No static pass has run.

    Returns:
        The backbone, its cost in multiply-adds.

    Raises:
        ExportError: It cannot be exported.
    """
    backbone, example = run_inputs.backbone, run_inputs.example
    dims = distributed.run_on_all(lambda: cut_backbone(backbone, example, None)).dims
    cache = run_inputs.recipe.dynamic_exit.cache.open()
    part = distributed.run_on_all(lambda: export_whole(run_inputs, dims, cache))
    inputs = backbone.select(example)
    session = PartSession(part, run_inputs.recipe.dynamic_exit.tuning.threads)
    stage = Stage(backbone, part, session, count_macs(backbone, inputs), part, inputs)
    answers, truth = {}, {}
    for key in ("calibration", "test"):
        split = run_inputs.splits[key]
        feeds = [*split.feeds(part.input_names).values()]
        answers[key] = np.concatenate([session.run(*batch).argmax(1) for batch in batches(feeds, DEFAULT_BATCH_SIZE)])
        truth[key] = np.where(split.labels < 0, answers[key], split.labels)
    return Baseline(stage, stage.macs, answers, truth)


@dataclass(frozen=True)
class VariantBackbone:
    """The exported backbone of a static choice, alone.

    Attributes:
        correct: bool (N,): where it is correct, on calibration samples.
        cost: Per sample, in the recipe's unit.
        first_cost: Of the backbone up to its first exit.
    """

    correct: np.ndarray
    cost: float
    first_cost: float


class StackResult(NamedTuple):
    """A backbone with savers and exits at the default point, on calibration samples: accuracy and cost per sample."""

    accuracy: float
    cost: float


@dataclass
class StaticVariant:
    """One static choice during the search.

    Attributes:
        choice: Pruning and quantization.
        build: Its model; None before it is exported, and once the variant is settled.
        backbone: Its exported backbone; None if that cannot be made.
        stack: The result with savers and exits; None if they were not tried.
        seconds: Spent on it.
        why: What became of it, in a few words.
    """

    choice: StaticChoice
    build: Build | None = None
    backbone: VariantBackbone | None = None
    stack: StackResult | None = None
    seconds: float = 0.0
    why: str = ""

    def figures(self, baseline: Baseline, chosen: bool) -> StaticVariantFigures:
        """Return what ``metrics.json`` says of it."""
        backbone, stack, samples = self.backbone, self.stack, len(baseline.correct("calibration"))
        backbone_accuracy = None if backbone is None else float(backbone.correct.mean())
        return StaticVariantFigures(
            pruning=self.choice.names[0],
            quantization=self.choice.names[1],
            backbone_accuracy=backbone_accuracy,
            backbone_cost_ratio=None if backbone is None else backbone.cost / baseline.cost,
            accuracy=stack and stack.accuracy,
            cost=stack and stack.cost,
            cost_ratio=stack and stack.cost / baseline.cost,
            seconds=round(self.seconds, 1),
            chosen=chosen,
            why=self.why,
            accuracy_standard_error=stack and standard_error(stack.accuracy, samples),
            backbone_accuracy_standard_error=None
            if backbone_accuracy is None
            else standard_error(backbone_accuracy, samples),
        )


@dataclass(frozen=True)
class StaticSearchResult:
    """The result of the static search.

    Attributes:
        baseline: The backbone as it came.
        variants: All of them, in the recipe's order.
        best: The variant of the best stack.
        goals: What the points are tuned for, relative to the best variant's own backbone: one for each goal of the
            recipe that leads to this stack.
        notes: Goals that it cannot reach, one sentence each.
    """

    baseline: Baseline
    variants: Sequence[StaticVariant]
    best: StaticVariant
    goals: Sequence[Goal]
    notes: Sequence[str]

    def check_drops(self, points: OperatingPoints, records: Records) -> list[DropCheck]:
        """Compare points with the drops that their goals allow below the baseline.

        Args:
            points: One for each of `goals`; their own goals are the recipe's.
            records: Of the test samples.
        """
        return check_drops(points, records, reference=self.baseline.correct("test"))

    def figures(self, points: OperatingPoints, checks: Sequence[DropCheck]) -> StaticSearchFigures:
        """Return what ``metrics.json`` says of the search.

        Args:
            points: Measured on the test records.
            checks: What `check_drops` says of them.
        """
        baseline, samples = self.baseline, len(self.baseline.correct("test"))
        accuracy = baseline.accuracy("test")
        return StaticSearchFigures(
            cost_unit=points.cost_unit,
            given=BaselineFigures(
                accuracy=accuracy,
                calibration_accuracy=baseline.accuracy("calibration"),
                cost=baseline.cost,
                accuracy_standard_error=standard_error(accuracy, samples),
            ),
            variants=[variant.figures(baseline, variant is self.best) for variant in self.variants],
            points=[
                StaticPointFigures(
                    name=point.name,
                    accuracy=point.accuracy,
                    accuracy_drop=accuracy - point.accuracy,
                    accuracy_drop_standard_error=each.drop_error,
                    cost_ratio=point.cost / baseline.cost,
                    accuracy_standard_error=standard_error(point.accuracy, samples),
                )
                for point, each in zip(points.points, checks, strict=True)
            ],
            seconds=round(sum(variant.seconds for variant in self.variants), 1),
        )
