"""Computes figures by stage and by sample from the records of the test samples; `figures` says what they are."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..chain.evaluation import Evaluation, evaluate, offer_exits
from ..core.hashing import array_fingerprint, digest
from ..guarantee.drop_checks import standard_error
from ..points.operating_point import OperatingPoint, OperatingPoints
from ..records import Records
from ..search.options import SearchOptions
from ..tuning.optimizer import front
from .figures import ExampleFigures, FrontFigures, PointAnswers, ReliabilityFigures, StageAnswers, TestFingerprint
from .research import calibration_error, reliability

#: Parts of equal width that confidences 0..1 are counted in.
CONFIDENCE_BINS, RELIABILITY_BINS = 20, 10
# configurations on the front, and the samples it is found on, at most: a picture needs no more
_FRONT_POINTS, _FRONT_SAMPLES = 24, 4_000
# samples whose inputs are looked at to tell data sets apart
_FINGERPRINT_ROWS = 16


class SampleDetails(NamedTuple):
    """What the report shows by stage and by sample; each empty where no test sample has a label."""

    front: list[FrontFigures]
    answers: list[PointAnswers]
    reliability: list[ReliabilityFigures]
    examples: list[ExampleFigures]


def sample_details(
    calibration: Records, test: Records, points: OperatingPoints, classes: int, examples: int
) -> SampleDetails:
    """Compute what the report shows by stage and by sample.

    Args:
        calibration: Records of the samples that were searched.
        test: Records of the test samples, of the chain that is written.
        points: The operating points.
        classes: Number of classes.
        examples: Samples of each kind to choose.
    """
    labelled = np.flatnonzero(np.asarray(test.labels) >= 0)
    if not len(labelled):
        return SampleDetails([], [], [], [])
    known = test.take(labelled)
    chosen = [] if not points.points else choose_examples(known, points.points[0], examples)
    return SampleDetails(
        front=_front(calibration, known, points),
        answers=[_point_answers(known, point, classes) for point in points.points],
        reliability=[_reliability(known, stage) for stage in known.stages],
        examples=[each.model_copy(update={"sample": int(labelled[each.sample])}) for each in chosen],
    )


def _front(calibration: Records, test: Records, points: OperatingPoints) -> list[FrontFigures]:
    """Measure the front of calibration samples on test samples, with evidence combined as the points do."""
    if points.evidence is None or points.last_stage:
        return []
    searched = calibration.select([stage for stage in calibration.stages if stage in test.stages])
    if len(searched) > _FRONT_SAMPLES:
        searched = searched.take(np.linspace(0, len(searched) - 1, _FRONT_SAMPLES).astype(int))
    fuse = points.evidence
    found = front(searched, _FRONT_POINTS, SearchOptions(fuse, risk=calibration.risk))
    figures = (evaluate(test, configuration) for configuration in found)
    return [
        FrontFigures(accuracy=each.accuracy, cost_ratio=each.cost_ratio)
        for each in sorted(figures, key=lambda each: each.cost_ratio)
    ]


def _point_answers(test: Records, point: OperatingPoint, classes: int) -> PointAnswers:
    labels, counts = np.asarray(test.labels), np.bincount(test.labels, minlength=classes)
    backbone, stages, rates = test.topk_classes[-1, :, 0] == labels, [], {}
    for offer in offer_exits(test, point.configuration):
        name, right = test.stages[offer.stage], offer.classes == labels[offer.rows]
        gone = offer.rows[offer.leaves]
        stages.append(
            StageAnswers(
                stage=name,
                threshold=float(offer.threshold) if np.isfinite(offer.threshold) else None,
                reached=len(offer.rows),
                left=len(gone),
                correct=int(right[offer.leaves].sum()),
                backbone_correct=int(backbone[gone].sum()),
                right=_by_confidence(offer.confidence[right]),
                wrong=_by_confidence(offer.confidence[~right]),
            )
        )
        rates[name] = _shares(np.bincount(labels[gone], minlength=classes), counts)
    return PointAnswers(name=point.name, stages=stages, class_exit_rates=rates)


def _by_confidence(confidence: np.ndarray) -> list[int]:
    place = np.clip(np.nan_to_num(confidence) * CONFIDENCE_BINS, 0, CONFIDENCE_BINS - 1).astype(int)
    return np.bincount(place, minlength=CONFIDENCE_BINS).tolist()


def _shares(hits: np.ndarray, counts: np.ndarray) -> list[float | None]:
    return [float(hit / count) if count else None for hit, count in zip(hits, counts, strict=True)]


def _reliability(test: Records, stage: str) -> ReliabilityFigures:
    means, right, counts = reliability(test, stage, RELIABILITY_BINS)
    accuracy = float((test.topk_classes[test.index(stage), :, 0] == test.labels).mean())
    return ReliabilityFigures(
        stage=stage,
        accuracy=accuracy,
        accuracy_standard_error=standard_error(accuracy, len(test)),
        calibration_error=calibration_error(test, stage, RELIABILITY_BINS),
        counts=counts.tolist(),
        confidence=[float(each) if count else None for each, count in zip(means, counts, strict=True)],
        right=[float(each) if count else None for each, count in zip(right, counts, strict=True)],
    )


def choose_examples(test: Records, point: OperatingPoint, count: int) -> list[ExampleFigures]:
    """Choose test samples that leave early, leave late, or are lost by leaving early, of as many classes as there are.

    Args:
        test: Records of samples that all have labels.
        point: Where they are answered.
        count: Samples of each kind; fewer if there are not as many.

    Returns:
        The samples by kind: of those that leave early and are lost, those that their stage is surest of; of those that
        leave late, those that the stage before is least sure of, as far as the last one's confidence tells.
    """
    found, labels = evaluate(test, point.configuration), np.asarray(test.labels)
    used = [test.index(stage.stage) for stage in point.stages]
    if not used or not count:
        return []
    backbone, correct = test.topk_classes[-1, :, 0], found.prediction == labels
    early, last = found.exit_index == used[0], found.exit_index == found.exit_index.max()
    lost = ~correct & (backbone == labels) & (found.exit_index < len(test.stages) - 1)
    kinds = {
        "early": (early & correct, -found.confidence),
        "late": (last & ~early & ~lost, found.confidence),
        "lost": (lost, -found.confidence),
    }
    return [
        _example(test, found, kind, row)
        for kind, (wanted, order) in kinds.items()
        for row in _of_many_classes(np.flatnonzero(wanted), order, labels, count)
    ]


def _of_many_classes(rows: np.ndarray, order: np.ndarray, labels: np.ndarray, count: int) -> Iterator[int]:
    """Yield rows in order, one of each class before a second one of any."""
    ordered = rows[np.argsort(order[rows], kind="stable")]
    turns, seen = np.zeros(len(ordered), dtype=int), dict[int, int]()
    for place, row in enumerate(ordered):
        turns[place] = seen[int(labels[row])] = seen.get(int(labels[row]), -1) + 1
    yield from (int(row) for row in ordered[np.argsort(turns, kind="stable")][:count])


def _example(test: Records, found: Evaluation, kind: str, row: int) -> ExampleFigures:
    return ExampleFigures.model_validate(
        {
            "kind": kind,
            "sample": row,
            "label": int(test.labels[row]),
            "answer": int(found.prediction[row]),
            "backbone_answer": int(test.topk_classes[-1, row, 0]),
            "stage": test.stages[found.exit_index[row]],
            "confidence": float(found.confidence[row]),
        }
    )


def fingerprint_test(inputs: Mapping[str, np.ndarray], labels: np.ndarray, names: Sequence[str]) -> TestFingerprint:
    """Return what tells test samples apart from others.

    Args:
        inputs: Arrays (N, ...) by name.
        labels: int64 (N,).
        names: Of the classes.
    """
    rows = np.unique(np.linspace(0, len(labels) - 1, _FINGERPRINT_ROWS).astype(int))
    return TestFingerprint(
        labels=digest(array_fingerprint(np.asarray(labels)), list(names))[:16],
        inputs=digest([array_fingerprint(array[rows]) for array in inputs.values()])[:16],
    )
