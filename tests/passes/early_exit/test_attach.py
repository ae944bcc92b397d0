import copy

import pytest
import tiny
import torch
from torch import nn

from dynamic_exit.cost import node_macs
from dynamic_exit.graph import Classifier, capture, find_cuts, split
from dynamic_exit.passes.early_exit import (
    EarlyExitStanza,
    ExitTraining,
    FrozenBackbone,
    TrainingSamples,
    attach_exits,
    choose_cuts,
    register_head,
    registered_heads,
)
from dynamic_exit.passes.early_exit.heads import ExitHead


class FlatHead(ExitHead):
    """A head of one's own: no pooling."""

    def __init__(self, layout, classes):
        super().__init__()
        self.layer = nn.Linear(int(torch.Size(layout.shape).numel()), classes)

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
    samples = TrainingSamples(given, known if labels is None else labels)
    return attach_exits(FrozenBackbone(segments, found, program.classes), samples, ExitTraining(stanza, seed))


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
