"""Figures by stage and by sample, which `metrics.json` holds beside its rows; `details` computes them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Figures(BaseModel):
    """Some figures that belong together. Shares, such as accuracies, lie in 0..1; what was not measured is None."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)


class FrontFigures(Figures):
    """A configuration on the front that calibration samples give, with its figures on the test samples."""

    accuracy: float
    cost_ratio: float


class StageAnswers(Figures):
    """What one stage answers at an operating point, on the test samples that have labels.

    Attributes:
        stage: Its name.
        threshold: A sample leaves where its confidence is above; None for the stage that answers last.
        reached: Number of samples that reach it.
        left: Number of samples that it answers.
        correct: How many of these answers are right.
        backbone_correct: How many of the same samples the backbone answers right.
        right: Of the samples that reach it, those that it would answer right: their number by confidence, in bins of
            equal width from 0 to 1.
        wrong: The same of those that it would answer wrong.
    """

    stage: str
    threshold: float | None
    reached: int
    left: int
    correct: int
    backbone_correct: int
    right: list[int]
    wrong: list[int]


class PointAnswers(Figures):
    """What the stages answer at an operating point.

    Attributes:
        name: The point's.
        stages: Those in use, in chain order; the one that answers last included.
        class_exit_rates: By stage: share of each class that it answers, in the order of ``class_names``; None where a
            class has no samples.
    """

    name: str
    stages: list[StageAnswers]
    class_exit_rates: dict[str, list[float | None]] = {}


class ReliabilityFigures(Figures):
    """How far the largest probability of one stage, alone, can be trusted, on the test samples that have labels.

    Attributes:
        stage: Its name.
        accuracy: Share of right answers.
        accuracy_standard_error: Of the accuracy.
        calibration_error: The expected calibration error, the mean distance of confidence and accuracy.
        counts: Number of samples by confidence, in bins of equal width from 0 to 1.
        confidence: Mean confidence in each bin; None where it is empty, as is the next one.
        right: Share of right answers in each bin.
    """

    stage: str
    accuracy: float
    accuracy_standard_error: float
    calibration_error: float
    counts: list[int]
    confidence: list[float | None]
    right: list[float | None]


class ExampleFigures(Figures):
    """A test sample as the first operating point answers it.

    Attributes:
        kind: ``early``: the first stage in use answers it, and is right; ``late``: the last one answers it; ``lost``: a
            stage before the last answers it and is wrong, where the backbone is right.
        sample: Its row in the test split, from 0.
        label: Index of its class.
        answer: Index of the class that is answered.
        backbone_answer: Index of the class that the backbone answers.
        stage: The stage that answers.
        confidence: How sure it is, 0..1.
    """

    kind: Literal["early", "late", "lost"]
    sample: int
    label: int
    answer: int
    backbone_answer: int
    stage: str
    confidence: float


class Environment(Figures):
    """What a run was made with.

    Attributes:
        system: Operating system and kind of processor, such as ``Linux x86_64``.
        processor: Its name, such as ``AMD EPYC 9R14``; empty if unknown.
        cores: Number of logical ones.
        python: Version.
        packages: Version by name.
    """

    system: str
    processor: str
    cores: int
    python: str
    packages: dict[str, str]


class TestFingerprint(Figures):
    """What changes with the test samples.

    Attributes:
        labels: Changes with labels, their order and the names of classes.
        inputs: Changes with what models take in of a few samples, its shape included.
    """

    __test__ = False  # no test of pytest

    labels: str
    inputs: str


class UpgradeBackboneFigures(Figures):
    """A backbone of `upgrade`, on samples searched: its cost over today's model's, right alone and at the budget."""

    name: str
    cost_ratio: float
    alone: float
    accuracy: float
    chosen: bool


class UpgradePointFigures(Figures):
    """One operating point against today's model, on the test samples: costs are over that model's."""

    name: str
    budget: float
    accuracy: float
    accuracy_gain: float
    accuracy_gain_standard_error: float
    cost_ratio: float
    cost_ratio_standard_error: float
    guarantee: float | None
    verdict: str


class UpgradeFigures(Figures):
    """Today's model on the test samples, and what backbones of `upgrade` and the points come to beside it."""

    model: str
    accuracy: float
    accuracy_standard_error: float
    cost: float
    backbones: list[UpgradeBackboneFigures]
    points: list[UpgradePointFigures]
