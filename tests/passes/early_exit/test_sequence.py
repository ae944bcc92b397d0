"""The exit sequence network: what it sees, how it is trained, and that it serves as it was trained."""

import pytest
import tiny
import torch
from log_lines import log_to
from pydantic import ValidationError
from torch import nn

from dynamic_exit.cost import node_macs
from dynamic_exit.errors import PassError
from dynamic_exit.graph import Classifier, capture, find_cuts, split
from dynamic_exit.passes.early_exit import (
    EarlyExitStanza,
    ExitTraining,
    FrozenBackbone,
    TrainingSamples,
    attach_exits,
    choose_cuts,
)
from dynamic_exit.passes.early_exit.config import SequenceOptions
from dynamic_exit.passes.early_exit.features import LiveFeatures
from dynamic_exit.passes.early_exit.heads import FeatureLayout, register_head
from dynamic_exit.passes.early_exit.sequence import SAVER, SequenceNetwork
from dynamic_exit.runtime.model import DynamicExitModel

ROWS = 30


@pytest.fixture(scope="module")
def backbone():
    inputs, labels = (torch.from_numpy(array) for array in tiny.samples("train"))
    program = capture(Classifier(tiny.backbone()).eval(), (inputs[:2],))
    cuts = choose_cuts(find_cuts(program, node_macs(program.graph_module, program.example_inputs)), "all", 1)
    return split(program, cuts), cuts, {program.input_names[0]: inputs}, labels


def network(cuts, saver=True, **options):
    torch.manual_seed(0)
    sizes = SequenceOptions(**{"width": 8, "heads": 2, **options})
    made = SequenceNetwork(
        [FeatureLayout.of(cut.shape) for cut in cuts], [None] * len(cuts), tiny.CLASSES, sizes, saver
    ).eval()
    for parameter in made.parameters():  # also those that start at zero
        nn.init.normal_(parameter, std=0.3)
    return made


def features(made, backbone, saver):
    segments, cuts, given, _ = backbone
    live = LiveFeatures(FrozenBackbone(segments, cuts, tiny.CLASSES), made.requests(saver, list(given)), given)
    return live.batch(torch.arange(ROWS), 0)[0]


def attach(backbone, saver, seed=1, folder=None, resume=False, sequence=None, **training):
    segments, cuts, given, labels = backbone
    stanza = EarlyExitStanza.model_validate(
        {"heads": ["linear"], "sequence": sequence or {}, "training": {"epochs": 10, **training}}
    )
    training = ExitTraining(stanza, seed, workdir=folder, resume=resume)
    return attach_exits(
        FrozenBackbone(segments, cuts, tiny.CLASSES), TrainingSamples(given, labels), training, saver=saver
    )


@pytest.mark.parametrize("with_saver", [True, False])
def test_it_serves_what_it_was_trained_as(backbone, with_saver):
    segments, cuts, given, _ = backbone
    saver = tiny.saver() if with_saver else None
    made = network(cuts, with_saver)
    with torch.no_grad():
        trained = made(features(made, backbone, saver))
        served = DynamicExitModel(
            segments,
            input_names=list(given),
            savers={"saver": saver} if with_saver else {},
            exits={f"{at}": (at, head) for at, head in enumerate(made.heads)},
            taps=made.taps,
        ).all_stage_logits(*(tensor[:ROWS] for tensor in given.values()))
    for at, logits in enumerate(trained):
        # features are rounded to float16 while it is trained
        torch.testing.assert_close(logits, served[str(at)], rtol=2e-2, atol=2e-2)


def test_an_exit_sees_the_saver_and_every_earlier_position_and_no_later_one(backbone):
    made = network(backbone[1])
    given = features(made, backbone, tiny.saver())
    with torch.no_grad():
        before = made(given)
        for key, changed in (((1, "global_pool"), [False, True, True]), (SAVER, [True, True, True])):
            after = made({**given, key: given[key] + torch.randn_like(given[key])})
            assert [not torch.equal(*pair) for pair in zip(before, after, strict=True)] == changed


def test_attention_by_hand():
    """Two tokens, one head: the mixture follows the softmax of the products of query and keys."""
    from dynamic_exit.passes.early_exit.sequence import SequenceHead

    torch.manual_seed(0)
    head = SequenceHead(3, 2, SequenceOptions(width=4, heads=1), with_saver=False).eval()
    memory = torch.randn(1, 8)
    with torch.no_grad():
        tokens = memory.view(2, 4)
        query = head.query(tokens[1])
        keys, values = head.pairs(tokens).chunk(2, dim=1)
        shares = (keys @ query / 2).softmax(0)
        seen = tokens[1] + head.mix(shares @ values)
        torch.testing.assert_close(head(memory)[0], head.layer(seen + head.mlp(seen)))


def test_an_untrained_exit_answers_as_the_saver(backbone):
    sizes = SequenceOptions(width=8, heads=2)
    made = SequenceNetwork(
        [FeatureLayout.of(cut.shape) for cut in backbone[1]], [None] * 3, tiny.CLASSES, sizes, with_saver=True
    )
    given = features(made, backbone, tiny.saver())
    assert all(torch.equal(logits, given[SAVER]) for logits in made(given))


def test_trained_exits_beat_the_saver_and_their_own_features(backbone):
    segments, _, given, labels = backbone
    saver = tiny.saver()
    before = {key: value.clone() for key, value in saver.state_dict().items()}
    exits = attach(backbone, saver)
    assert list(exits) == [f"block{at}:{kind}" for at in (1, 2, 3) for kind in ("linear", "sequence")]
    model = DynamicExitModel(
        segments, input_names=list(given), savers={"saver": saver}, exits=exits, taps=exits.taps
    ).eval()
    inputs, truth = (torch.from_numpy(array) for array in tiny.samples("test"))
    with torch.no_grad():
        logits = model.all_stage_logits(inputs)
    right = {name: float((each.argmax(1) == truth).float().mean()) for name, each in logits.items()}
    assert right["block2:sequence"] > max(right["saver"], right["block2:linear"]) + 0.05
    assert all(torch.equal(value, before[key]) for key, value in saver.state_dict().items())
    assert not any(tap.training for tap in exits.taps.values())


def test_other_heads_are_trained_as_without_it(backbone):
    segments, cuts, given, labels = backbone
    stanza = EarlyExitStanza.model_validate({"heads": ["linear"], "training": {"epochs": 10}})
    frozen = FrozenBackbone(segments, cuts, tiny.CLASSES)
    alone = attach_exits(frozen, TrainingSamples(given, labels), ExitTraining(stanza, 1))
    assert dict(alone.taps) == {}
    both = attach(backbone, tiny.saver())
    for name, (_, head) in alone.items():
        for key, value in head.state_dict().items():
            torch.testing.assert_close(both[name][1].state_dict()[key], value, msg=f"{name} {key}")


def test_training_goes_on_to_the_same_result(backbone, tmp_path):
    saver = tiny.saver()
    whole = attach(backbone, saver, folder=tmp_path / "whole")

    class Stop(Exception):
        pass

    def stop(line):
        if "epoch 4" in line:
            raise Stop

    with pytest.raises(Stop), log_to(stop):
        attach(backbone, saver, folder=tmp_path / "parts")
    resumed = attach(backbone, saver, folder=tmp_path / "parts", resume=True)
    for name, (_, head) in whole.items():
        for key, value in head.state_dict().items():
            assert torch.equal(resumed[name][1].state_dict()[key], value), (name, key)
    with pytest.raises(PassError, match="was made with other heads, settings, data or backbone"):
        attach(backbone, None, folder=tmp_path / "parts", resume=True)


class Broken(nn.Module):
    def forward(self, inputs):
        return torch.full((len(inputs), tiny.CLASSES), float("nan"))


def test_a_saver_that_gives_nan_is_refused(backbone):
    with pytest.raises(PassError, match="the last saver gives NaN on the training split"):
        attach(backbone, Broken())


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(ValidationError, match="has 3 heads for a width of 32; choose heads that divide the width"):
        EarlyExitStanza.model_validate({"sequence": {"heads": 3}})
    assert EarlyExitStanza().sequence is None
    with pytest.raises(PassError, match="exit head 'sequence' is already registered"):
        register_head("sequence")(nn.Module)
