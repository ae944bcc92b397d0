"""A recipe's chain of stages, made step by step: the backbone in segments, savers before it, exits in it, records."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..core import distributed
from ..core.cache import Cache
from ..graph import is_text
from ..graph.backbone import Backbone
from ..passes.tiny_saver import Candidate
from ..records import Records
from ..runtime.recorder import make_records
from ..runtime.stages import FLOAT, StageSet
from ..sources.run_inputs import RunInputs
from ..targets.base import create_target
from ..targets.onnxruntime import OnnxRuntimeTarget, export_exits
from .backbone import cut_backbone
from .candidates.pool import CandidatePool
from .measure import stage_costs

logger = logging.getLogger(__name__)


@dataclass
class Build:
    """A chain under construction.

    Attributes:
        run_inputs: What it is made of, static passes included.
        backbone: The cut backbone.
        target: Exports and quantizes.
        stages: What has been made so far.
        numerics: What was measured where several quantizations were to choose from.
        candidates: The table of savers that were tried.
        candidates_seconds: What that took.
        costs: As `stage_costs` gives them; empty until `grow`.
        notes: What the user should know of how it was made, one sentence each: for ``metrics.json``, report and card.
    """

    run_inputs: RunInputs
    backbone: Backbone
    target: OnnxRuntimeTarget
    stages: StageSet
    numerics: list[dict[str, Any]]
    candidates: list[Candidate] = field(default_factory=list)
    candidates_seconds: float = 0.0
    costs: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def export_backbone(run_inputs: RunInputs) -> Build:
    """Cut a backbone, choose its numerics, and ship its segments.

    Args:
        run_inputs: The static passes have run.

    Raises:
        DynamicExitError: One sentence on what cannot be cut, exported or quantized.
    """
    recipe = run_inputs.recipe
    exits = recipe.dynamic_exit.early_exit
    backbone = distributed.run_on_all(partial(cut_backbone, run_inputs.backbone, run_inputs.example, exits))
    logger.info(f"backbone: {backbone.depth} cuts found, {len(backbone.cuts)} in use")
    if backbone.fixed_length:
        logger.info(f"the file takes texts of {_length(run_inputs)} tokens alone: {backbone.fixed_length}")
    inputs = run_inputs.splits["calibration"].inputs
    target, numerics = create_target(run_inputs, backbone)
    segments = target.export_backbone(backbone, recipe.model.quantize)
    stages = StageSet(tuple(inputs), segments, {"final": backbone.depth})
    stages.numerics = target.int8.label if target.int8 and recipe.model.quantize else FLOAT
    return Build(run_inputs, backbone, target, stages, numerics)


def _length(run_inputs: RunInputs) -> int:
    return next(tensor.shape[1] for tensor in run_inputs.example.values() if is_text(tensor))


def grow(chain: Build, pool: CandidatePool | None, cache: Cache, begin: Callable[[], Path], resume: bool) -> None:
    """Put savers and exits into a chain, and find what every stage costs.

    Args:
        chain: Its backbone is shipped.
        pool: Candidates for savers; None for none.
        cache: Keeps what is measured.
        begin: Called once savers are chosen; returns the folder for what training leaves.
        resume: Go on with the training of exits where such a folder holds one.

    Raises:
        DynamicExitError: One sentence on what cannot be done and why.
    """
    run_inputs, stages = chain.run_inputs, chain.stages
    recipe = run_inputs.recipe
    if pool:
        chain.candidates = pool.select(stages, chain.target)
        chain.candidates_seconds = pool.seconds
        chain.notes += pool.notes
    work, exits = begin(), recipe.dynamic_exit.early_exit
    if exits:
        train, place = run_inputs.splits["train"], {"workdir": work, "resume": resume}
        export_exits(stages, chain.backbone, chain.target, exits, train.tensors, train.labels, recipe.seed, **place)
    chain.costs = stage_costs(stages, recipe.dynamic_exit.tuning, cache)


def record_split(chain: Build, key: str, costs: Mapping[str, Any] | None = None) -> Records:
    """Make the records of one split, with the numerics that ship, on all cores.

    Args:
        chain: The stages.
        key: Name of the split.
        costs: As `stage_costs` gives them; None: those of the chain.
    """
    run_inputs, stages = chain.run_inputs, chain.stages
    split, workers = run_inputs.splits[key], chain.target.workers()
    described = {"positions": stages.positions, "requires": stages.requires, **(costs or chain.costs)}
    model, inputs = stages.model("session"), [*split.inputs.values()]
    return make_records(model, inputs, split.labels, workers=workers, **described)
