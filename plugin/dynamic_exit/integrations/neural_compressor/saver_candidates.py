"""Candidates of the tiny-saver pass on a model in memory: loading them, and recording their answers."""

import warnings
from functools import partial

import torch
from torch import Tensor, nn

from ...core.chance import no_better_than_chance
from ...cost import count_macs
from ...errors import DynamicExitError, PassError
from ...passes import TinySaverStanza
from ...passes.tiny_saver import Shortlist, evaluate_alone
from ...pipeline.candidates.untrained import why_untrained
from ...records import Records
from ...runtime.recorder import Answers, answer_batches, join_answers
from ...sources.data.split import UNNAMED
from ...sources.models.candidates import expand_candidates, load_candidate


def evaluate_candidates(
    stanza: TinySaverStanza, backbone: nn.Module, classes: int, inputs: Tensor, cost: float
) -> tuple[dict[str, nn.Module], Records]:
    """Run candidates and the backbone on samples without labels.

    Args:
        stanza: Names the candidates.
        backbone: From the inputs to logits (N, C).
        classes: Number of classes C.
        inputs: Samples (N, ...), at least two.
        cost: Multiply-adds of the backbone per sample.

    Returns:
        The candidates that were run, from cheap to expensive, and their records. A candidate that cannot be used is
        skipped with a warning.

    Raises:
        PassError: No candidate can be used, or the stanza asks for training.
    """
    if stanza.fine_tune:
        raise PassError(
            "pass 'tiny_saver' trains savers only in a recipe, on its training split; leave `fine_tune` out"
        )
    example = (inputs[:2],)
    shortlist = Shortlist(cost, "macs", single=stanza.selection == "single", time_limit=stanza.time_limit)
    loaded = _load(stanza, classes, example, shortlist)
    macs = {name: count_macs(module, example) for name, module in loaded.items()}
    final = _answers("final", backbone, inputs)
    answers: dict[str, Answers] = {}
    for name in sorted(loaded, key=lambda name: (macs[name], name)):
        if answers and shortlist.out_of_time() or shortlist.cannot_win(macs[name]):
            continue
        answers[name] = _answers(name, loaded[name], inputs)
        if shortlist.single and not no_better_than_chance(answers[name].classes[:, 0], final.classes[:, 0]):
            shortlist.record(evaluate_alone(_records({name: answers[name]}, final, macs, cost), name, stanza.fuse))
    return {name: loaded[name] for name in answers}, _records(answers, final, macs, cost)


def _load(
    stanza: TinySaverStanza, classes: int, example: tuple[Tensor, ...], shortlist: Shortlist
) -> dict[str, nn.Module]:
    loaded: dict[str, nn.Module] = {}
    reasons = []
    for source in expand_candidates(stanza.candidates):
        try:
            build = partial(load_candidate, source, classes, {UNNAMED: example[0]})
            candidate = build(seed=0)
            reason = shortlist.too_expensive(count_macs(candidate, example))
            reason = reason or why_untrained(source, candidate, example, partial(build, seed=1))
        except DynamicExitError as error:
            reason = str(error)
        if reason is None:
            loaded[source.stage_name] = candidate
            continue
        reasons.append(f"candidate '{source.stage_name}' is left out: {reason}")
        warnings.warn(reasons[-1], stacklevel=4)
    if not loaded:
        raise PassError(f"pass 'tiny_saver': no candidate can be used, {reasons[0]}; give others")
    return loaded


def _answers(name: str, module: nn.Module, inputs: Tensor) -> Answers:
    return Answers.join([*answer_batches(name, module, [inputs.numpy()])])


def _records(answers: dict[str, Answers], final: Answers, macs: dict[str, float], cost: float) -> Records:
    return join_answers(
        {**answers, "final": final},
        torch.full((len(final),), -1).numpy(),
        own_cost={**macs, "final": 0.0},
        prefix_cost={**dict.fromkeys(answers, 0.0), "final": cost},
        positions={"final": 0},
        cost_unit="macs",
    )
