"""Savers and exits on a model in memory: trained on its own answers and tuned to agree with it, without labels."""

import warnings
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ...chain.goal import Goal
from ...chain.names import HIDDEN
from ...core.batching import run_in_batches
from ...cost import ExitCost, chain_cost, count_macs, node_macs
from ...errors import PassError
from ...graph import (
    Classifier,
    Cut,
    Program,
    Segment,
    SegmentSequence,
    answer_without_sigmoid,
    capture,
    check_objective,
    evaluation_mode,
    find_cuts,
    split,
)
from ...passes import EarlyExitStanza, TinySaverStanza
from ...passes.early_exit import (
    ExitTraining,
    FrozenBackbone,
    TrainingSamples,
    attach_exits,
    cheapest_head,
    choose_cuts,
    uncertainty,
)
from ...passes.tiny_saver import select_savers
from ...runtime.model import DynamicExitModel
from ...runtime.recorder import make_records
from ...search.optimizer import optimize
from ...search.options import SearchOptions
from .calibration import CalibrationCalls
from .saver_candidates import evaluate_candidates

#: Default of the largest share of answers that may differ from the model's, in 0..1.
MAX_DISAGREEMENT = 0.005


def make_dynamic_model(
    name: str,
    model: nn.Module,
    calls: CalibrationCalls,
    *,
    savers: TinySaverStanza | None = None,
    exits: EarlyExitStanza | None = None,
    limit: float = MAX_DISAGREEMENT,
    make_segments: Callable[[Program, Sequence[Cut]], Sequence[Segment]] = split,
) -> DynamicExitModel:
    """Put savers before a model and exits into it, with the thresholds of least cost at which it agrees with itself.

    Args:
        name: Name of the pass, for messages.
        model: Model of one input. It does not change; the result shares its float weights.
        calls: Calibration calls. With exits, every second sample trains them and the others serve all else.
        savers: None for no savers.
        exits: None for no exits.
        limit: Largest share of answers that may differ from the model's, in 0..1.
        make_segments: Returns the segments between cuts; by default the model's own.

    Raises:
        DynamicExitError: One sentence on what cannot be done and why.
    """
    if exits and exits.sequence:
        raise PassError("pass 'early_exit' builds sequence networks only in a recipe; leave `sequence` out")
    check_objective(model, "the model")
    inputs, keyword = calls.only_input(name)
    train, tune = (inputs[::2], inputs[1::2]) if exits else (inputs[:0], inputs)
    with evaluation_mode(model):
        classifier = Classifier(model, keywords=[keyword] if keyword else None)
        # this call also makes Neural Compressor's weight-only layers unpack, which they cannot do in a graph
        answer_without_sigmoid(classifier, (inputs[:2],), "the model")
        program = capture(classifier, (inputs[:2],))
    macs = node_macs(program.graph_module, program.example_inputs)
    cuts, total = find_cuts(program, macs), sum(macs.values())
    chosen: list[Cut] = []
    if exits:
        chosen = choose_cuts(cuts, exits.positions, exits.count, cheapest_head(exits.entries, program.classes, total))
    float_segments, segments = split(program, chosen), make_segments(program, chosen)
    kept: dict[str, nn.Module] = {}
    if savers:
        kept = _select_savers(savers, float_segments, segments, program.classes, tune, limit, required=not exits)
    attached = _attach_exits(exits, segments, chosen, program, train, kept, total) if exits else {}
    fuse = savers.fuse if savers and kept else "none"
    dynamic = DynamicExitModel(segments, input_names=program.input_names, savers=kept, exits=attached, fuse=fuse)
    positions = {stage: chosen[index].index for stage, (index, _) in attached.items()} | {"final": len(cuts)}
    return _tune(dynamic, float_segments, tune, positions, limit)


def _select_savers(
    stanza: TinySaverStanza,
    float_segments: Sequence[Segment],
    segments: Sequence[Segment],
    classes: int,
    inputs: Tensor,
    limit: float,
    required: bool,
) -> dict[str, nn.Module]:
    cost = count_macs(SegmentSequence(float_segments), (inputs[:2],))
    savers, records = evaluate_candidates(stanza, SegmentSequence(segments), classes, inputs, cost)
    table = select_savers(records, stanza.max_savers, stanza.fuse, limit, selection=stanza.selection)
    names = [row.stage for row in table if row.chosen]
    if not names:
        reasons = ", ".join(f"{row.stage} ({row.why})" for row in table)
        message = f"pass 'tiny_saver': none of {reasons} saves anything; give other candidates"
        if required:
            raise PassError(message)
        warnings.warn(message, stacklevel=4)
    return {name: saver for name, saver in savers.items() if name in names}


def _attach_exits(
    stanza: EarlyExitStanza,
    segments: Sequence[Segment],
    chosen: list[Cut],
    program: Program,
    inputs: Tensor,
    savers: Mapping[str, nn.Module],
    total: float,
) -> Mapping[str, tuple[int, nn.Module]]:
    unsure = None
    if savers and stanza.training.weighting != "none":
        unsure = uncertainty([run_in_batches(saver, [inputs]) for saver in savers.values()])
    samples = TrainingSamples({program.input_names[0]: inputs}, torch.full((len(inputs),), -1), unsure)
    backbone = FrozenBackbone(segments, chosen, program.classes, macs=total)
    return attach_exits(backbone, samples, ExitTraining(stanza))


def _tune(
    model: DynamicExitModel,
    float_segments: Sequence[Segment],
    inputs: Tensor,
    positions: Mapping[str, int],
    limit: float,
) -> DynamicExitModel:
    """Set the thresholds of least cost at which the model agrees with its final stage; costs are those in float."""
    savers = dict(zip(model.chain, model.savers, strict=False))
    exits = zip(model.chain[len(savers) :], model.positions[len(savers) :], model.heads, strict=True)
    own, prefix = chain_cost(
        {name: count_macs(saver, (inputs[:2],)) for name, saver in savers.items()},
        [count_macs(segment, segment.example_inputs) for segment in float_segments],
        {name: ExitCost(place, _head_macs(head, float_segments[place + 1])) for name, place, head in exits},
    )
    model.records = make_records(
        model,
        [inputs.numpy()],
        torch.full((len(inputs),), -1).numpy(),
        own_cost=own,
        prefix_cost=prefix,
        positions=positions,
        cost_unit="macs",
    )
    (best,) = optimize(model.records, [Goal(max_accuracy_drop=limit)], SearchOptions(model.fuse))
    model.set_thresholds(best.as_array(model.chain).tolist())
    return model


def _head_macs(head: nn.Module, following: Segment) -> float:
    return count_macs(head, (following.example_inputs[following.input_names.index(HIDDEN)],))
