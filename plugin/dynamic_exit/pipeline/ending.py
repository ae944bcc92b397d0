"""Chains that end before the backbone's own head: at a saver in its place, or at the last stage that samples get to."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..chain.evaluation import evaluate
from ..chain.evidence import Evidence
from ..chain.names import FINAL
from ..chain.thresholds import Configuration
from ..points.operating_point import BACKBONE, OperatingPoint, OperatingPoints
from ..records import Records
from .stages import RecordedBuild

logger = logging.getLogger(__name__)


def end_at(recorded: RecordedBuild, name: str, before: Sequence[str]) -> RecordedBuild:
    """Return the model that ends at one of its stages, with its records.

    Args:
        recorded: The model with all of its stages, and their records.
        name: As for `StageSet.end_at`.
        before: Names of the stages that remain before it.
    """
    build, calibration, test, unlabelled = recorded
    return RecordedBuild(
        replace(build, stages=build.stages.end_at(name, before)),
        _records(calibration, name, before),
        _records(test, name, before),
        None if unlabelled is None else _records(unlabelled, name, before),
    )


def _records(records: Records, name: str, before: Sequence[str]) -> Records:
    """Return the records of some stages and, as the final, of the one that the chain ends at."""
    last = records.index(name)
    kept = [*(records.index(each) for each in before), last]
    own, prefix = records.own_cost[kept], records.prefix_cost[kept]
    own[-1], prefix[-1] = 0.0, records.own_cost[last] + records.prefix_cost[last]
    return Records(
        labels=records.truth,  # where labels are unknown, the backbone's answers go on to count
        stages=(*before, FINAL),
        kinds=(*(records.kinds[index] for index in kept[:-1]), FINAL),
        positions=np.array([*records.positions[kept[:-1]], records.positions[-1]]),
        topk_classes=records.topk_classes[kept],
        topk_probabilities=records.topk_probabilities[kept],
        own_cost=own,
        prefix_cost=prefix,
        cost_unit=records.cost_unit,
    )


def drop_unreached(recorded: RecordedBuild, points: OperatingPoints) -> tuple[RecordedBuild, OperatingPoints]:
    """Leave out the stages that no calibration sample gets to at any operating point.

    The last stage that some sample gets to answers whatever does. On calibration samples nothing changes thereby, so
    that guarantees, which are tested on some of them, hold for the shorter chain as they did for the whole one.

    Args:
        recorded: The model with all of its stages, and their records.
        points: Tuned on these records.

    Returns:
        The model that ends at that stage, and the points with their figures on the test samples there, relative to the
        whole backbone; both unchanged if some sample gets to the end, or the chain cannot end where none goes on.
    """
    build, calibration, test, _ = recorded
    rates = [evaluate(calibration, point.configuration).exit_rates for point in points.points]
    left = [max(each.get(stage, 0.0) for each in rates) for stage in calibration.stages]
    last = max(index for index, rate in enumerate(left) if rate > 0)
    if last == len(left) - 1:
        logger.info("some calibration samples get to the end of the backbone: all of it is written")
        return recorded, points
    name, before = calibration.stages[last], calibration.stages[:last]
    if build.stages.taps and name in build.stages.exits:
        note = (
            f"no calibration sample gets past {name}, which reads taps: a chain cannot end there, all of it is written"
        )
        logger.warning(note)
        return recorded, points.model_copy(update={"warnings": (*points.warnings, note)})
    shorter = end_at(recorded, name, before)
    evidence = points.evidence or Evidence()
    made = [_shortened(point, points, shorter.test, evidence.power(name)) for point in points.points]
    beyond = [evaluate(test, point.configuration).exit_index > last for point in points.points]
    note = (
        f"at every operating point all {len(calibration)} calibration samples leave at '{name}' at the latest: what is "
        f"behind it ({', '.join(calibration.stages[last + 1 :])}) is not in the file, '{name}' answers as '{FINAL}' "
        f"whatever gets so far ({int(np.any(beyond, axis=0).sum())} of {len(test)} test samples would have gone on), "
        f"and there is no point '{BACKBONE}'; drops and costs are relative to the whole backbone, "
        f"which is right on {points.baseline.accuracy:.1%} of the test samples"
    )
    logger.info(note)
    update = {"points": tuple(made), "last_stage": name, "warnings": (*points.warnings, note)}
    return shorter, points.model_copy(update=update)


def _shortened(point: OperatingPoint, points: OperatingPoints, test: Records, power: float) -> OperatingPoint:
    """Return a point of the shorter chain, measured there; figures are relative to the baseline as before."""
    before = test.stages[:-1]
    kept = tuple((stage.stage, stage.threshold) for stage in point.stages if stage.stage in before)
    fuse = point.evidence.of_stages(before)
    if kept and power != 1:  # it weighs nothing where one stage answers alone
        fuse = replace(fuse, powers=(*fuse.powers, (FINAL, power)))
    made = OperatingPoint.measure(
        test, Configuration(kept, fuse), name=point.name, goal=point.goal, guarantee=point.guarantee
    )
    drop, ratio = points.baseline.accuracy - made.accuracy, made.cost / points.baseline.cost
    return made.model_copy(update={"accuracy_drop": drop, "cost_ratio": ratio})
