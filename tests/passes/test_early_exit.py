import copy

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dynamic_exit.cost import node_macs
from dynamic_exit.errors import CutError, PassError
from dynamic_exit.graph import Classifier, Cut, capture, find_cuts, split
from dynamic_exit.passes.early_exit import (
    EarlyExitStanza,
    attach_exits,
    build_head,
    choose_cuts,
    register_head,
    registered_heads,
)
from dynamic_exit.passes.early_exit.heads import ExitHead, GlobalPool


def cuts(*shares):
    return [Cut(index, f"layer{index}", (4,), share, f"node{index}") for index, share in enumerate(shares)]


def chosen(found):
    return [cut.index for cut in found]


@pytest.mark.parametrize(
    ("shares", "count", "expected"),
    [
        ((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), 1, [4]),  # a half
        ((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), 4, [1, 3, 5, 7]),  # fifths
        ((0.02, 0.04, 0.06, 0.08, 0.7), 2, [3, 4]),  # nearest to 1/3 and 2/3 by cost, not by number
        ((0.5, 0.9), 2, [0, 1]),  # 1/3 and 2/3 meet at the first: the spare one is taken too
        ((0.5,), 4, [0]),  # no more than there are
        ((0.3, 0.98), 3, [0]),  # behind nearly all of the backbone there is nothing left to save
        ((0.0, 0.4), 2, [1]),
    ],
)
def test_auto_spreads_by_cost(shares, count, expected):
    assert chosen(choose_cuts(cuts(*shares), "auto", count)) == expected


@given(
    shares=st.lists(st.floats(0.01, 0.96), min_size=1, max_size=12, unique=True).map(sorted),
    count=st.integers(1, 15),
)
def test_auto_picks_as_many_as_wanted_by_depth(shares, count):
    found = chosen(choose_cuts(cuts(*shares), "auto", count))
    assert len(found) == min(count, len(shares))
    assert found == sorted(set(found))


def test_all_leaves_out_only_the_useless():
    assert chosen(choose_cuts(cuts(0.0, 0.2, 0.5, 0.97, 0.99), "all", 1)) == [1, 2]


def test_names_are_taken_once_and_by_depth():
    assert chosen(choose_cuts(cuts(0.2, 0.5, 0.8), ["layer2", "layer0", "layer2"], 1)) == [0, 2]


def test_refusals_of_positions():
    with pytest.raises(CutError, match=r"^the backbone has no cut 'laier1'; did you mean 'layer1'\?$"):
        choose_cuts(cuts(0.2, 0.5), ["laier1"], 1)
    for none in ([], cuts(0.0, 0.99)):
        with pytest.raises(CutError, match="^the backbone has no usable cut"):
            choose_cuts(none, "auto", 2)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 1, 3), [[2.0, 5.0]]),  # channels first: means of (1, 2, 3) and (4, 5, 6)
        ((1, 1, 6), [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]),  # channels last
        ((3, 2), [[3.0, 4.0]]),  # tokens: means of (1, 3, 5) and (2, 4, 6)
        ((6,), [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]),
    ],
)
def test_pooling_by_hand(shape, expected):
    hidden = torch.arange(1.0, 7).reshape(1, *shape)
    assert GlobalPool(shape)(hidden).tolist() == expected


def test_pooling_of_equal_sizes_takes_the_first_for_channels():
    hidden = torch.arange(8.0).reshape(1, 2, 2, 2)
    assert GlobalPool((2, 2, 2))(hidden).tolist() == [[1.5, 5.5]]


@pytest.mark.parametrize("shape", [(7, 7, 96), (96, 7, 7), (49, 96), ("length", 96), (96,)])
@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_heads_find_the_channels(kind, shape):
    sizes = [5 if isinstance(size, str) else size for size in shape]
    head = build_head(kind, shape, 4).eval()
    assert head(torch.randn(3, *sizes)).shape == (3, 4)
    assert [m.in_features for m in head.modules() if isinstance(m, nn.Linear)][0] == 96


def test_a_head_is_standardised_pooling_and_a_linear_layer():
    head = build_head("linear", (2, 2, 3), 3).eval()
    (linear,) = (m for m in head.modules() if isinstance(m, nn.Linear))
    (norm,) = (m for m in head.modules() if isinstance(m, nn.BatchNorm1d))
    with torch.no_grad():
        norm.running_mean.copy_(torch.tensor([1.0, -1.0, 0.5]))
        norm.running_var.copy_(torch.tensor([4.0, 1.0, 0.25]))
        hidden = torch.randn(5, 2, 2, 3)
        expected = linear((hidden.mean((1, 2)) - norm.running_mean) / torch.sqrt(norm.running_var + norm.eps))
        torch.testing.assert_close(head(hidden), expected)


def test_refusals_of_heads():
    with pytest.raises(PassError, match=r"^unknown exit head 'liner'; did you mean 'linear'\?$"):
        build_head("liner", (4,), 2)
    with pytest.raises(PassError, match=r"^an exit head needs a hidden state of 1 to 3 dimensions besides batch"):
        build_head("linear", (2, 3, 4, 5), 2)
    with pytest.raises(PassError, match=r"^an exit head needs a fixed number of channels; got \(8, 'length'\)"):
        build_head("linear", (8, "length"), 2)
    with pytest.raises(PassError, match="^exit head 'linear' is already registered; choose another name$"):
        register_head("linear")(nn.Linear)
    assert registered_heads()["linear"] is not nn.Linear


class FlatHead(ExitHead):
    """A head of one's own: no pooling."""

    def __init__(self, shape, classes):
        super().__init__()
        self.layer = nn.Linear(int(torch.Size(shape).numel()), classes)

    def answer(self, features):
        return self.layer(features.flatten(1))


@pytest.fixture(scope="module")
def cut_backbone():
    inputs, labels = (torch.from_numpy(array) for array in tiny.samples("train"))
    program = capture(Classifier(tiny.backbone()).eval(), (inputs[:2],))
    found = choose_cuts(find_cuts(program, node_macs(program.graph_module, program.example_inputs)), "all", 1)
    return program, found, split(program, found), {program.input_names[0]: inputs}, labels


def attach(parts, labels=None, seed=0, **options):
    program, found, segments, given, known = parts
    stanza = EarlyExitStanza.model_validate({"training": {"epochs": 8}, **options})
    return attach_exits(segments, found, given, known if labels is None else labels, program.classes, stanza, seed)


def states(exits):
    return {name: head.state_dict() for name, (_, head) in exits.items()}


def same(one, other):
    return all(torch.equal(one[name][key], other[name][key]) for name in one for key in one[name])


def test_exits_stand_behind_their_cuts(cut_backbone):
    exits = attach(cut_backbone, heads=["linear", "mlp"])
    assert [(name, index) for name, (index, _) in exits.items()] == [
        ("block1:linear", 0), ("block1:mlp", 0), ("block2:linear", 1),
        ("block2:mlp", 1), ("block3:linear", 2), ("block3:mlp", 2),
    ]  # fmt: skip
    assert not any(module.training for _, head in exits.values() for module in head.modules())


def test_attaching_leaves_the_backbone_and_the_generator_alone(cut_backbone):
    segments = cut_backbone[2]
    before = [copy.deepcopy(segment.state_dict()) for segment in segments]
    generator = torch.random.get_rng_state()
    attach(cut_backbone)
    for segment, state in zip(segments, before, strict=True):
        assert not segment.training
        for key, value in segment.state_dict().items():
            assert torch.equal(value, state[key])
        assert all(parameter.grad is None for parameter in segment.parameters())
    assert torch.equal(generator, torch.random.get_rng_state())


def test_the_seed_alone_decides(cut_backbone):
    torch.manual_seed(1)
    first = states(attach(cut_backbone, seed=5))
    torch.manual_seed(2)
    assert same(first, states(attach(cut_backbone, seed=5)))
    assert not same(first, states(attach(cut_backbone, seed=6)))


def accuracy(parts, exits, name, labels):
    _, _, segments, given, _ = parts
    index, head = exits[name]
    with torch.no_grad():
        (hidden,) = given.values()
        for segment in segments[: index + 1]:
            hidden = segment(hidden)
        return (head(hidden).argmax(1) == labels).double().mean().item()


def test_exits_learn_the_labels(cut_backbone):
    exits = attach(cut_backbone, training={"epochs": 30, "distillation": 0.0})
    assert accuracy(cut_backbone, exits, "block3:linear", cut_backbone[4]) > 0.9


def test_without_labels_exits_learn_the_final(cut_backbone):
    unknown = torch.full_like(cut_backbone[4], -1)
    exits = attach(cut_backbone, labels=unknown, training={"epochs": 30, "distillation": 0.0})
    with torch.no_grad():
        final = tiny.backbone()(next(iter(cut_backbone[3].values()))).argmax(1)
    assert accuracy(cut_backbone, exits, "block3:linear", final) > 0.9


def test_distillation_decides_between_labels_and_final(cut_backbone):
    """Labels that the final would never give: the mix says whom an exit follows."""
    wrong = (cut_backbone[4] + 1) % tiny.CLASSES
    agree = []
    for share in (0.0, 1.0):
        exits = attach(cut_backbone, labels=wrong, training={"epochs": 30, "distillation": share})
        agree.append(accuracy(cut_backbone, exits, "block3:linear", wrong))
    assert agree[0] > 0.9
    assert agree[1] < 0.1


def test_a_head_of_ones_own_is_a_class_that_registers_itself(cut_backbone):
    if "flat" not in registered_heads():
        register_head("flat")(FlatHead)
    exits = attach(cut_backbone, heads=["flat"], training={"epochs": 30})
    assert isinstance(exits["block1:flat"][1], FlatHead)
    assert accuracy(cut_backbone, exits, "block2:flat", cut_backbone[4]) > 0.9


def test_a_loss_without_end_is_refused(cut_backbone):
    with pytest.raises(PassError, match=r"^the loss of an exit head became (nan|inf) in epoch \d+; lower its rate$"):
        attach(cut_backbone, training={"learning_rate": 1e30})
