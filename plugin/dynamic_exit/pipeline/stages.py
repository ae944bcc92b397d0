"""A model while a run builds it: first its backbone in exported segments, then savers, exits and costs."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from ..candidates.pool import CandidatePool
from ..core import distributed
from ..core.cache import Cache
from ..cost import ChainCost
from ..data.run_inputs import RunInputs
from ..data.split import UNLABELLED
from ..graph import is_text
from ..graph.backbone import Backbone
from ..passes.tiny_saver import Candidate
from ..recipe.target_registry import TARGETS
from ..records import Records
from ..runtime.recorder import make_records
from ..runtime.stages import FLOAT, StageSet
from ..targets.base import Exporter
from ..targets.precision import QuantizationTrial
from ..targets.stage_costs import stage_costs, stage_macs
from .backbone import cut_backbone

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Build:
    """A model under construction. It never changes: each step returns a new one.

    Attributes:
        run_inputs: What it is made of, after the static passes.
        backbone: The cut backbone.
        target: Exports and quantizes.
        stages: What has been made so far.
        numerics: What was measured to choose a quantization.
        candidates: The table of savers that were tried.
        candidates_seconds: What trying them took.
        costs: Of every stage, in the recipe's unit; multiply-adds until `add_costs`.
        notes: What the user should know of how it was made, one sentence each: for ``metrics.json``, report and card.
    """

    run_inputs: RunInputs
    backbone: Backbone
    target: Exporter
    stages: StageSet
    costs: ChainCost
    numerics: Sequence[QuantizationTrial] = ()
    candidates: Sequence[Candidate] = ()
    candidates_seconds: float = 0.0
    notes: tuple[str, ...] = ()


class RecordedBuild(NamedTuple):
    """A model with all of its stages, and its records.

    Attributes:
        build: The model.
        calibration: Records of the calibration split, which thresholds are searched on.
        test: Records of the test split, which figures are reported from.
        unlabelled: Records of the unlabelled split, which thresholds are searched on too; None if there is none, or if
            savers were made with it.
    """

    build: Build
    calibration: Records
    test: Records
    unlabelled: Records | None = None


def export_backbone(
    run_inputs: RunInputs,
    make_target: Callable[[RunInputs, Backbone], tuple[Exporter, Sequence[QuantizationTrial]]] | None = None,
) -> Build:
    """Cut the backbone where exits are wanted, choose its quantization, and export its segments.

    Args:
        run_inputs: The static passes have run.
        make_target: Makes what exports, as `TargetKind.create` does; None takes the target that the recipe names.

    Raises:
        DynamicExitError: One sentence on what cannot be cut, exported or quantized.
    """
    recipe = run_inputs.recipe
    exits = recipe.dynamic_exit.early_exit
    backbone = distributed.run_on_all(partial(cut_backbone, run_inputs.backbone, run_inputs.example, exits))
    logger.info(f"backbone: {backbone.depth} cuts found, {len(backbone.cuts)} in use")
    if backbone.fixed_length:
        length = next(tensor.shape[1] for tensor in run_inputs.example.values() if is_text(tensor))
        logger.info(f"the file takes texts of {length} tokens alone: {backbone.fixed_length}")
    target, numerics = (make_target or TARGETS.find(recipe.export.target).create)(run_inputs, backbone)
    segments = target.export_backbone(backbone, recipe.model.quantize)
    quantized = target.quantization if recipe.model.quantize else None
    stages = StageSet(
        input_names=tuple(run_inputs.splits["calibration"].inputs),
        segments=tuple(segments),
        positions={"final": backbone.depth},
        numerics=quantized.label if quantized else FLOAT,
    )
    return Build(run_inputs, backbone, target, stages, stage_macs(stages), numerics)


def add_costs(build: Build, cache: Cache) -> Build:
    """Find what every stage costs, in the recipe's unit.

    Args:
        build: With all of its stages.
        cache: Keeps what is measured.
    """
    tuning = build.run_inputs.recipe.dynamic_exit.tuning
    return replace(build, costs=stage_costs(build.stages, tuning, cache))


def record_split(build: Build, key: str) -> Records:
    """Make the records of one split with the exported numerics, on all cores.

    Args:
        build: The stages and their costs.
        key: Name of the split.
    """
    stages, split = build.stages, build.run_inputs.splits[key]
    records = make_records(
        stages.model("session"),
        [*split.inputs.values()],
        split.labels,
        build.costs,
        stages.positions,
        requires=stages.spec.requires,
        workers=build.target.workers(),
    )
    return replace(records, groups=split.groups)


def recorded_splits(run_inputs: RunInputs, pool: CandidatePool | None) -> list[str]:
    """Return the splits to make records of, in the order of `RecordedBuild`."""
    # savers that are made know the unlabelled samples by heart
    further = UNLABELLED in run_inputs.splits and not (pool and pool.makers)
    return ["calibration", "test", *([UNLABELLED] if further else [])]
