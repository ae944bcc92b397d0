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
from ..graph.backbone import Backbone
from ..passes.early_exit import (
    BackboneSegment,
    EarlyExitStanza,
    ExitTraining,
    FrozenBackbone,
    TrainingSamples,
    attach_exits,
    uncertainty,
)
from ..passes.early_exit.heads import ExitHead
from ..passes.early_exit.sequence import SequenceHead
from ..runtime.stages import Stage, StageSet
from ..sources.data.split import Split
from ..targets.base import ExportRequest, Target
from .stages import Build

_Head = ExitHead | SequenceHead


def add_exits(build: Build, workdir: Path | None = None, resume: bool = False) -> Build:
    """Train the exits of a recipe, if it has any, and export them.

    Args:
        build: With its savers.
        workdir: Folder of the cached features and the checkpoint; None keeps neither.
        resume: Go on from the checkpoint in `workdir`, if there is one.

    Raises:
        DynamicExitError: One sentence on what cannot be trained or exported.
    """
    recipe = build.run_inputs.recipe
    stanza = recipe.dynamic_exit.early_exit
    if stanza is None:
        return build
    trainer = ExitBuilder(build.backbone, build.target, stanza, recipe.seed)
    return replace(build, stages=trainer.add_exits(build.stages, build.run_inputs.splits["train"], workdir, resume))


class ExitBuilder:
    """Trains exits and exports them in float, as they are tiny.

    Args:
        backbone: The cuts.
        target: Exports the heads.
        stanza: Kinds of heads and training.
        seed: Starts every head's weights and decides the order of samples.
    """

    def __init__(self, backbone: Backbone, target: Target, stanza: EarlyExitStanza, seed: int):
        self.backbone, self.target, self.stanza, self.seed = backbone, target, stanza, seed

    def add_exits(self, stages: StageSet, train: Split, workdir: Path | None = None, resume: bool = False) -> StageSet:
        """Train exits on what the exported segments give, and return the stages with them.

        Args:
            stages: The exported segments and savers.
            train: The training split.
            workdir: Folder of the cached features and the checkpoint; None keeps neither.
            resume: Go on from the checkpoint in `workdir`, if there is one.
        """
        stanza, cuts, inputs = self.stanza, self.backbone.cuts, train.tensors
        savers = [*stages.savers.values()]
        frozen = FrozenBackbone(
            [cast(BackboneSegment, stage.session) for stage in stages.segments],
            cuts,
            self.backbone.classes,
            macs=sum(stage.macs for stage in stages.segments),
            digest=digest([stage.part.content for stage in stages.segments]),
        )
        weighting = _uncertainty(savers if stanza.training.weighting != "none" else [], inputs)
        samples = TrainingSamples(inputs, torch.from_numpy(train.labels), weighting)
        training = ExitTraining(stanza, self.seed, workdir=workdir, resume=resume)
        last_saver = savers[-1].session if savers and stanza.sequence else None
        heads = attach_exits(frozen, samples, training, saver=last_saver)
        taps = {
            index: self._export(f"note{index + 1}", tap, MEMORY, index, inputs) for index, tap in heads.taps.items()
        }
        exits = {
            name: (index, self._export(name, cast(_Head, head), "logits", index, inputs))
            for name, (index, head) in heads.items()
        }
        return stages.add_exits(exits, {name: cuts[index].index for name, (index, _) in exits.items()}, taps)

    def _export(self, name: str, head: _Head, output_kind: str, index: int, inputs: Mapping[str, Tensor]) -> Stage:
        """Export a head or a tap that stands after the segment of an index."""
        example = self._example(head, index, inputs)
        return self.target.export_stage(ExportRequest(name, head, head.input_names, output_kind, example))

    def _example(self, head: _Head, index: int, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Return a head's inputs of two samples."""
        if isinstance(head, SequenceHead):
            return (torch.zeros(2, head.columns),)
        if index < 0:
            return (torch.zeros(2, self.backbone.classes),)
        following = self.backbone.segments[index + 1]
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
