"""Evaluate a configuration on records: the only source of reported figures.

Independent of the search, and as plain as the runtime: stage by stage, on the samples that have not exited yet.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import OperatingPointError, nearest
from ..records import Records
from .confidence import confidence_names
from .evidence import evidence_names
from .thresholds import Configuration


@dataclass(frozen=True)
class Evaluation:
    """Figures of a configuration on records.

    Attributes:
        accuracy: 0..1; the share of correct answers; if the label is unknown, the final's own answer counts as
            correct.
        baseline_accuracy: 0..1; accuracy of the backbone alone.
        cost: Mean per sample, in the unit of the records.
        cost_ratio: Cost over the backbone's.
        cost_ratio_error: Standard error of that mean.
        exit_rates: Share of samples that exit at each stage in use and at the final; they sum to 1.
        exit_index: int64 (N,); index of the stage where each sample exits.
        prediction: int64 (N,); the predicted class.
        confidence: float32 (N,); of the prediction.
        worth: (N,); of each answer to the risk of the records, see `Records.worth`.
        reference_worth: (N,); of the answers that losses are relative to, the backbone's.
    """

    accuracy: float
    baseline_accuracy: float
    cost: float
    cost_ratio: float
    cost_ratio_error: float
    exit_rates: dict[str, float]
    exit_index: np.ndarray
    prediction: np.ndarray
    confidence: np.ndarray
    worth: np.ndarray
    reference_worth: np.ndarray

    @property
    def accuracy_drop(self) -> float:
        """The backbone's accuracy less this one; negative for a gain."""
        return self.baseline_accuracy - self.accuracy

    @property
    def risk(self) -> float:
        """1 less the mean worth of answers; the share of wrong answers where the risk is accuracy."""
        return float(1 - self.worth.mean())

    @property
    def risk_increase(self) -> float:
        """The risk less the backbone's; the accuracy drop where the risk is accuracy."""
        return float(self.reference_worth.mean() - self.worth.mean())

    @property
    def losses(self) -> np.ndarray:
        """float64 (N,): how much less each answer is worth than the backbone's."""
        return self.reference_worth.astype(np.float64) - self.worth


def evaluate(records: Records, configuration: Configuration) -> Evaluation:
    """Evaluate a configuration on records.

    A sample that exits at stage s costs the own cost of every stage in use up to s plus the prefix cost of s.
    Prediction is the class with the largest evidence, confidence says how sure that is; among equals the first kept
    class for the answer of a single stage, the lowest class for fused evidence (both are what argmax gives at
    inference). In fused evidence a class that a stage did not keep counts as 0.

    Args:
        records: The records.
        configuration: Stages of these records, in chain order.

    Returns:
        The figures, and where each sample exits with which prediction.

    Raises:
        OperatingPointError: A stage does not exist, is the final, is out of order, shares its position with another
            one in use, lacks a saver that it requires, or its threshold is NaN; or ``fuse`` is unknown.
    """
    samples = len(records)
    exit_index = np.full(samples, len(records.stages) - 1, dtype=np.int64)
    prediction = np.empty(samples, dtype=np.int64)
    confidence = np.empty(samples, dtype=np.float32)
    worth = np.empty(samples, dtype=records.final_worth.dtype)
    stages = []
    for offer in offer_exits(records, configuration):
        stages.append(offer.stage)
        gone = offer.rows[offer.leaves]
        exit_index[gone], prediction[gone] = offer.stage, offer.classes[offer.leaves]
        confidence[gone], worth[gone] = offer.confidence[offer.leaves], offer.worth

    truth = records.labelled_truth
    paid = records.stage_table.exit_cost(tuple(stages[:-1]))
    rates = np.array([(exit_index == stage).mean() for stage in stages])
    cost = float(rates @ paid)
    return Evaluation(
        accuracy=float((prediction == truth).mean()),
        baseline_accuracy=float((records.topk_classes[-1, :, 0] == truth).mean()),
        cost=cost,
        cost_ratio=cost / records.baseline_cost,
        cost_ratio_error=float(np.sqrt(rates @ (paid - cost) ** 2 / samples)) / records.baseline_cost,
        exit_rates={records.stages[stage]: float(rate) for stage, rate in zip(stages, rates, strict=True)},
        exit_index=exit_index,
        prediction=prediction,
        confidence=confidence,
        worth=worth,
        reference_worth=records.reference_worth,
    )


class Offer(NamedTuple):
    """One stage in use, and the samples that reach it.

    Attributes:
        stage: Its index in the records.
        threshold: Of its confidence; minus infinity for the final.
        rows: int64 (n,); the samples that reach it.
        classes: int64 (n,); what would be answered here.
        confidence: float32 (n,); how sure that is.
        leaves: bool (n,); whether the sample leaves here.
        worth: What the answers of those that leave are worth, see `Records.worth`.
    """

    stage: int
    threshold: np.float32
    rows: np.ndarray
    classes: np.ndarray
    confidence: np.ndarray
    leaves: np.ndarray
    worth: np.ndarray


def offer_exits(records: Records, configuration: Configuration) -> Iterator[Offer]:
    """Yield the stages in use one by one, the final last, with the samples that have not left before.

    Args:
        records: The records.
        configuration: Stages of these records, in chain order.

    Raises:
        OperatingPointError: As `evaluate`.
    """
    chain, recorded = check_configuration(records, configuration), configuration.fuse.on(records)
    stages = [*(index for index, _ in chain), len(records.stages) - 1]
    thresholds = [*(threshold for _, threshold in chain), np.float32(-np.inf)]
    in_play = np.arange(len(records))
    for place, (stage, threshold) in enumerate(zip(stages, thresholds, strict=True)):
        seen = [stage] if recorded.rule.separable else stages[: place + 1]
        classes, sure = recorded.evaluate(seen, in_play)
        leaves = sure > threshold
        worth = recorded.worth(seen, classes[leaves], in_play[leaves])
        yield Offer(stage, threshold, in_play, classes, sure, leaves, worth)
        in_play = in_play[~leaves]


def check_configuration(records: Records, configuration: Configuration) -> list[tuple[int, np.float32]]:
    """Check that a configuration fits records.

    Args:
        records: The records.
        configuration: The configuration.

    Returns:
        (index of the stage, float32 threshold) per stage in use.

    Raises:
        OperatingPointError: It does not fit.
    """
    fuse = configuration.fuse
    for key, value, known in (
        ("fuse", fuse.rule, evidence_names()),
        ("confidence", fuse.confidence, confidence_names()),
    ):
        if value not in known:
            raise OperatingPointError(f"{key} is '{value}'; {nearest(value, known)}")
    table, chain = records.stage_table, list[tuple[int, np.float32]]()
    for name, threshold in configuration.stages:
        if name not in records.stages[:-1]:
            raise OperatingPointError(
                f"there is no stage '{name}' before the final; {nearest(name, records.stages[:-1])}"
            )
        if np.isnan(threshold):
            raise OperatingPointError(f"the threshold of '{name}' must be a number; got {threshold}")
        index = records.stages.index(name)
        if chain and index <= chain[-1][0]:
            raise OperatingPointError(f"stages must be in chain order, each once; '{name}' is not")
        if chain and records.kinds[index] == "exit" and records.positions[index] == records.positions[chain[-1][0]]:
            before = records.stages[chain[-1][0]]
            raise OperatingPointError(f"'{before}' and '{name}' share a position; use at most one of them")
        for saver in table.required_savers((index,)):
            if saver not in (before for before, _ in chain):
                raise OperatingPointError(f"'{name}' builds on '{records.stages[saver]}'; use that stage too")
        chain.append((index, np.float32(threshold)))
    return chain
