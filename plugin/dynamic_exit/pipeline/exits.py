"""The step that trains exits on what the exported segments give, and exports them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from ..chain.names import HIDDEN, MEMORY
from ..core import distributed
from ..core.batching import DEFAULT_BATCH_SIZE, run_in_batches
from ..core.hashing import digest
from ..passes.early_exit import (
    BackboneSegment,
    ExitTraining,
    FrozenBackbone,
    TrainingSamples,
    attach_exits,
    uncertainty,
)
from ..passes.early_exit.heads import ExitHead
from ..passes.early_exit.sequence import SequenceHead
from ..runtime.stages import Stage
from ..targets.base import ExportRequest
from .stages import Build

_Head = ExitHead | SequenceHead


def add_exits(build: Build, workdir: Path | None = None, resume: bool = False) -> Build:
    """Train the exits of a recipe, if it has any, on what the exported segments give, and export them in float.

    Args:
        build: With its savers.
        workdir: Folder of the cached features and the checkpoint; None keeps neither.
        resume: Go on from the checkpoint in `workdir`, if there is one.

    Raises:
        DynamicExitError: One sentence on what cannot be trained or exported.
    """
    recipe, stages, cuts = build.run_inputs.recipe, build.stages, build.backbone.cuts
    stanza = recipe.dynamic_exit.early_exit
    if stanza is None:
        return build
    train, savers = build.run_inputs.splits["train"], [*stages.savers.values()]
    frozen = FrozenBackbone(
        [cast(BackboneSegment, stage.session) for stage in stages.segments],
        cuts,
        build.backbone.classes,
        macs=sum(stage.macs for stage in stages.segments),
        digest=digest([stage.part.content for stage in stages.segments]),
    )
    weighting = _uncertainty(savers if stanza.training.weighting != "none" else [], train.tensors)
    samples = TrainingSamples(train.tensors, torch.from_numpy(train.labels), weighting)
    training = ExitTraining(stanza, recipe.seed, workdir=workdir, resume=resume)
    heads = attach_exits(frozen, samples, training, saver=savers[-1].session if savers and stanza.sequence else None)
    taps = {index: _export(build, f"note{index + 1}", tap, MEMORY, index) for index, tap in heads.taps.items()}
    exits = {
        name: (index, _export(build, name, cast(_Head, head), "logits", index)) for name, (index, head) in heads.items()
    }
    positions = {name: cuts[index].index for name, (index, _) in exits.items()}
    return replace(build, stages=stages.add_exits(exits, positions, taps))


def _export(build: Build, name: str, head: _Head, output_kind: str, index: int) -> Stage:
    """Export a head or a tap that stands after the segment of an index; heads are tiny and stay in float."""
    example = _example(build, head, index)
    return build.target.export_stage(ExportRequest(name, head, head.input_names, output_kind, example))


def _example(build: Build, head: _Head, index: int) -> tuple[Tensor, ...]:
    """Return a head's inputs of two samples."""
    if isinstance(head, SequenceHead):
        return (torch.zeros(2, head.columns),)
    if index < 0:
        return (torch.zeros(2, build.backbone.classes),)
    following, inputs = build.backbone.segments[index + 1], build.run_inputs.splits["train"].tensors
    hidden = following.example_inputs[following.input_names.index(HIDDEN)]
    return tuple(hidden if name == HIDDEN else inputs[name][:2] for name in head.input_names)


def _uncertainty(savers: Sequence[Stage], inputs: Mapping[str, Tensor]) -> Tensor | None:
    """Return the uncertainty of the most certain saver for each sample (N,); each process runs its own rows."""
    rows = distributed.shard(len(next(iter(inputs.values()))), DEFAULT_BATCH_SIZE)
    mine = {name: tensor[rows.start : rows.stop] for name, tensor in inputs.items()}

    def answers() -> list[np.ndarray]:
        return [
            run_in_batches(saver.session, [mine[name] for name in saver.part.input_names]).numpy()
            for saver in savers
            if rows
        ]

    return uncertainty([torch.from_numpy(each) for each in distributed.all_gather_rows(answers)])
