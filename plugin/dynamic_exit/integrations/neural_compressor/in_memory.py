"""Savers and exits on a model in memory, without labels: they learn from its own answers and are tuned to agree."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from ...chain.names import HIDDEN
from ...chain.operating_point import Goal
from ...core.batching import run_in_batches
from ...cost import count_macs, node_macs
from ...errors import PassError
from ...graph import (
    Classifier,
    Cut,
    Program,
    Segment,
    answer_without_sigmoid,
    capture,
    check_objective,
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
from .calibration import CalibrationCalls
from .pt2e import SegmentSequence
from .saver_candidates import evaluate_candidates

#: Disagreement with the backbone that thresholds are tuned to, in 0..1.
MAX_DISAGREEMENT = 0.005


def make_dynamic_model(
    name: str,
    model: nn.Module,
    calls: CalibrationCalls,
    *,
    savers: TinySaverStanza | None = None,
    exits: EarlyExitStanza | None = None,
    limit: float = MAX_DISAGREEMENT,
    pieces: Callable[[Program, Sequence[Cut]], Sequence[nn.Module]] = split,
) -> DynamicExitModel:
    """Put savers before a model and exits into it, and set the thresholds of least cost at which it agrees.

    Args:
        name: Of the pass, for messages.
        model: Of one input; it stays as it was, and the result shares its float weights.
        calls: What it is calibrated on. With exits they train on every second sample, and all else uses the others.
        savers: None for none.
        exits: None for none.
        limit: Largest share of answers that may differ from the model's, in 0..1.
        pieces: Gives what answers between the cuts; default: the model's own segments.

    Raises:
        DynamicExitError: One sentence on what cannot be done and why.
    """
    if exits and exits.sequence:
        raise PassError("pass 'early_exit' builds sequence networks only in a recipe; leave `sequence` out")
    check_objective(model, "the model")
    inputs, keyword = calls.only_input(name)
    trained, rest = (inputs[::2], inputs[1::2]) if exits else (inputs[:0], inputs)
    with evaluation_mode(model):
        classifier = Classifier(model, keywords=keyword and [keyword])
        # also since Neural Compressor's weight-only layers unpack at their first call, which no graph can
        answer_without_sigmoid(classifier, (inputs[:2],), "the model")
        program = capture(classifier, (inputs[:2],))
    macs = node_macs(program.graph_module, program.example_inputs)
    cuts, total = find_cuts(program, macs), sum(macs.values())
    chosen = []
    if exits:
        chosen = choose_cuts(cuts, exits.positions, exits.count, cheapest_head(exits.entries, program.classes, total))
    plain, segments = split(program, chosen), pieces(program, chosen)
    kept = _pick(savers, plain, segments, program.classes, rest, limit, alone=not exits) if savers else {}
    attached = _attach(exits, segments, chosen, program, trained, kept, total) if exits else {}
    fuse = savers.fuse if kept else "none"
    dynamic = DynamicExitModel(segments, input_names=program.input_names, savers=kept, exits=attached, fuse=fuse)
    positions = {stage: chosen[index].index for stage, (index, _) in attached.items()} | {"final": len(cuts)}
    return _tuned(dynamic, plain, rest, positions, limit)


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Keep a model in evaluation mode for a while."""
    before = {module: module.training for module in model.modules()}
    try:
        for module in before:
            module.training = False
        yield
    finally:
        for module, mode in before.items():
            module.training = mode


def _pick(
    stanza: TinySaverStanza,
    plain: Sequence[Segment],
    segments: Sequence[nn.Module],
    classes: int,
    inputs: Tensor,
    limit: float,
    alone: bool,
) -> dict[str, nn.Module]:
    cost = count_macs(SegmentSequence(plain), (inputs[:2],))
    savers, records = evaluate_candidates(stanza, SegmentSequence(segments), classes, inputs, cost)
    table = select_savers(records, stanza.max_savers, stanza.fuse, limit, selection=stanza.selection)
    names = [row.stage for row in table if row.chosen]
    if not names:
        reasons = ", ".join(f"{row.stage} ({row.why})" for row in table)
        message = f"pass 'tiny_saver': none of {reasons} saves anything; give other candidates"
        if alone:
            raise PassError(message)
        warnings.warn(message, stacklevel=4)
    return {name: saver for name, saver in savers.items() if name in names}


def _attach(
    stanza: EarlyExitStanza,
    segments: Sequence[nn.Module],
    chosen: list[Cut],
    program: Program,
    inputs: Tensor,
    savers: dict[str, nn.Module],
    total: float,
):
    unsure = None
    if savers and stanza.training.weighting != "none":
        unsure = uncertainty([run_in_batches(saver, [inputs]) for saver in savers.values()])
    samples = TrainingSamples({program.input_names[0]: inputs}, torch.full((len(inputs),), -1), unsure)
    backbone = FrozenBackbone(segments, chosen, program.classes, macs=total)
    return attach_exits(backbone, samples, ExitTraining(stanza))


def _tuned(
    model: DynamicExitModel, plain: Sequence[Segment], inputs: Tensor, positions: dict[str, int], limit: float
) -> DynamicExitModel:
    """Set the thresholds of least cost at which the model agrees with its final; costs are those in float."""
    savers = dict(zip(model.chain, model.savers, strict=False))
    before, reached = [], 0.0
    for segment in plain:
        reached += count_macs(segment, segment.example_inputs)
        before.append(reached)
    own = {name: count_macs(saver, (inputs[:2],)) for name, saver in savers.items()} | {"final": 0.0}
    prefix = dict.fromkeys(savers, 0.0) | {"final": reached}
    exits = zip(model.chain[len(savers) :], model.positions[len(savers) :], model.heads, strict=True)
    for name, place, head in exits:
        following = plain[place + 1]
        own[name] = count_macs(head, (following.example_inputs[following.input_names.index(HIDDEN)],))
        prefix[name] = before[place]
    costs = {"own_cost": own, "prefix_cost": prefix, "positions": positions, "cost_unit": "macs"}
    records = make_records(model, [inputs.numpy()], torch.full((len(inputs),), -1).numpy(), **costs)
    model.records = records
    (best,) = optimize(records, [Goal(max_accuracy_drop=limit)], fuse=model.fuse)
    used = dict(best.stages)
    model.set_thresholds([used.get(stage, float("inf")) for stage in model.chain])
    return model
