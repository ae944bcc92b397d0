"""The passes on a model in memory, as Neural Compressor calls them: no labels, inputs from its calibration function."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..cost import count_macs, node_macs
from ..errors import PassError
from ..graph import Classifier, capture, find_cuts, split
from ..passes import EarlyExitStanza, PruningStanza, TinySaverStanza
from ..passes.early_exit import attach_exits, cheapest_head, choose_cuts
from ..passes.pruning import prune
from ..passes.tiny_saver import select_savers
from ..runtime.model import DynamicExitModel
from ..runtime.recorder import make_records
from ..tuning.operating_point import Goal
from ..tuning.optimizer import optimize
from .savers import try_savers

#: Disagreement with the backbone that thresholds are tuned to, in 0..1.
MAX_DISAGREEMENT = 0.005


def pruning(model: nn.Module, stanza: PruningStanza, *, run_fn, run_args, example_inputs) -> nn.Module:
    """Return a pruned copy; without labels there is no fine-tuning."""
    inputs = (example_inputs,) if isinstance(example_inputs, Tensor) else example_inputs
    if inputs is None:
        inputs = (collect_inputs("pruning", model, run_fn, run_args)[:2],)
    return prune(model, tuple(inputs), stanza)


def tiny_saver(model: nn.Module, stanza: TinySaverStanza, *, run_fn, run_args, example_inputs) -> DynamicExitModel:
    """Return the model behind the savers that pay off, in float, tuned to agree with it."""
    inputs = collect_inputs("tiny_saver", model, run_fn, run_args)
    program = capture(Classifier(model).eval(), (inputs[:2],))
    segments = split(program, [])
    savers, records = try_savers(stanza, segments[0], program.classes, inputs)
    table = select_savers(records, stanza.max_savers, stanza.fuse, MAX_DISAGREEMENT, selection=stanza.selection)
    names = [row.stage for row in table if row.chosen]
    chosen = {name: saver for name, saver in savers.items() if name in names}
    if not chosen:
        raise PassError(f"pass 'tiny_saver': none of {', '.join(savers)} saves anything; give other candidates")
    dynamic = DynamicExitModel(segments, input_names=program.input_names, savers=chosen, fuse=stanza.fuse)
    return _tuned(dynamic, inputs, {"final": 0}, stanza.fuse)


def early_exit(model: nn.Module, stanza: EarlyExitStanza, *, run_fn, run_args, example_inputs) -> DynamicExitModel:
    """Return the model with exits, trained on one half of the calibration inputs and tuned on the other."""
    inputs = collect_inputs("early_exit", model, run_fn, run_args)
    trained, tuned = inputs[::2], inputs[1::2]
    program = capture(Classifier(model).eval(), (inputs[:2],))
    macs = node_macs(program.graph_module, program.example_inputs)
    cuts, total = find_cuts(program, macs), sum(macs.values())
    head_share = cheapest_head(stanza.entries, program.classes, total)
    chosen = choose_cuts(cuts, stanza.positions, stanza.count, head_share)
    segments = split(program, chosen)
    unknown = torch.full((len(trained),), -1)
    given = {program.input_names[0]: trained}
    exits = attach_exits(segments, chosen, given, unknown, program.classes, stanza, seed=0, backbone_cost=total)
    positions = {name: chosen[index].index for name, (index, _) in exits.items()} | {"final": len(cuts)}
    dynamic = DynamicExitModel(segments, input_names=program.input_names, exits=exits, notes=exits.notes)
    return _tuned(dynamic, tuned, positions, "none")


def collect_inputs(name: str, model: nn.Module, run_fn: Callable | None, run_args: Any) -> Tensor:
    """Return what a calibration function feeds the model.

    Args:
        name: Of the pass, for messages.
        model: The model; it takes one tensor.
        run_fn: Calls the model on batches.
        run_args: Further positional arguments of `run_fn`.

    Returns:
        All inputs, (N, ...).

    Raises:
        PassError: There is no function, or it never calls the model with a tensor.
    """
    if run_fn is None:
        raise PassError(f"pass '{name}' needs `run_fn`, which calls the model on calibration batches")
    if isinstance(model, DynamicExitModel):
        raise PassError(f"pass '{name}' got a model that is dynamic already; name all passes in one recipe instead")
    batches: list[Tensor] = []
    handle = model.register_forward_pre_hook(lambda module, inputs: batches.extend(inputs[:1]))
    try:
        with torch.no_grad():
            run_fn(model, *run_args) if run_args else run_fn(model)
    finally:
        handle.remove()
    if sum(len(batch) for batch in batches) < 4:
        raise PassError(f"`run_fn` gave pass '{name}' fewer than 4 samples; let it call the model on more batches")
    return torch.cat([batch.detach().cpu() for batch in batches])


def _records(model: DynamicExitModel, inputs: Tensor, positions: dict[str, int]):
    savers = dict(zip(model.chain, model.savers, strict=False))
    before, reached = [], 0.0
    for segment in model.segments:
        reached += count_macs(segment, segment.example_inputs)
        before.append(reached)
    own = {name: count_macs(saver, (inputs[:2],)) for name, saver in savers.items()} | {"final": 0.0}
    prefix = dict.fromkeys(savers, 0.0) | {"final": reached}
    exits = zip(model.chain[len(savers) :], model.positions[len(savers) :], model.heads, strict=True)
    for name, place, head in exits:
        own[name] = count_macs(head, model.segments[place + 1].example_inputs[:1])
        prefix[name] = before[place]
    unknown = torch.full((len(inputs),), -1).numpy()
    return make_records(
        model, [inputs.numpy()], unknown, own_cost=own, prefix_cost=prefix, positions=positions, cost_unit="macs"
    )


def _tuned(model: DynamicExitModel, inputs: Tensor, positions: dict[str, int], fuse: str) -> DynamicExitModel:
    """Set the thresholds of least cost at which the model agrees with its final."""
    records = _records(model, inputs, positions)
    (best,) = optimize(records, [Goal(max_accuracy_drop=MAX_DISAGREEMENT)], fuse=fuse)
    used = dict(best.stages)
    model.set_thresholds([used.get(stage, float("inf")) for stage in model.chain])
    return model
