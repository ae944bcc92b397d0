"""Which channels go: by which measure, in which scope, how many, and in how many steps."""

import itertools

import pytest
import tiny
import torch
from torch import nn

from dynamic_exit.cost import count_macs
from dynamic_exit.passes import PruningStanza
from dynamic_exit.passes.pruning import prune
from dynamic_exit.passes.pruning.importance import MEASURES
from dynamic_exit.passes.pruning.removal_order import Rules, removal_order, units_by_layer, within_ratio

IMAGES, LABELS = (torch.from_numpy(array) for array in tiny.samples("train"))
EXAMPLE = (IMAGES[:2],)
TRAIN = (IMAGES, LABELS)


def make(**values):
    return PruningStanza(**{"fine_tune": {"epochs": 0, "step_epochs": 0}, **values})


def widths(model):
    return [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)]


def wide():
    """Three convolutions without norms, 8, 16 and 16 channels."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 2), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 3)).eval()


def share(pruned, model, example=EXAMPLE):
    return count_macs(pruned, example) / count_macs(model, example)


def rules(scope="layer", initial=None, max_ratio=0.9, round_to=1):
    return Rules(scope, {"a": 4, "b": 2} if initial is None else initial, max_ratio, round_to)


SCORES = {"a": torch.tensor([0.3, 0.1, 0.4, 0.2]), "b": torch.tensor([0.05, 0.35])}


def test_every_layer_gives_its_least_important_units_at_its_own_share():
    order = removal_order(SCORES, rules())
    assert [(block.name, block.units, block.key) for block in order] == [
        ("a", (1,), 0.25), ("a", (3,), 0.5), ("b", (0,), 0.5), ("a", (0,), 0.75)
    ]  # fmt: skip
    counts = [within_ratio(order, ratio, rules(), SCORES) for ratio in (0.0, 0.24, 0.25, 0.5, 0.74, 0.9)]
    assert counts == [0, 0, 1, 3, 3, 4]
    assert units_by_layer(order[:3]) == {"a": [1, 3], "b": [0]}


def test_all_units_compete_in_the_global_scope():
    order = removal_order(SCORES, rules("global"))
    assert [(block.name, block.units) for block in order] == [("b", (0,)), ("a", (1,)), ("a", (3,)), ("a", (0,))]
    assert [within_ratio(order, ratio, rules("global"), SCORES) for ratio in (0.16, 0.17, 0.5, 0.9)] == [0, 1, 3, 4]


def test_later_steps_count_what_is_gone_already():
    left = {"a": torch.tensor([0.3, 0.4]), "b": torch.tensor([0.35])}
    assert [(b.name, b.key) for b in removal_order(left, rules())] == [("a", 0.75)]
    order = removal_order(left, rules("global"))
    assert [within_ratio(order, ratio, rules("global"), left) for ratio in (0.4, 0.5, 0.67)] == [0, 0, 1]


def test_what_stays_is_a_multiple():
    scores = {"a": torch.arange(10.0)}
    order = removal_order(scores, rules(initial={"a": 10}, round_to=4))
    assert [block.units for block in order] == [(0, 1), (2, 3, 4, 5)]


def test_a_layer_keeps_its_share():
    scores = {"a": torch.arange(10.0)}
    assert len(removal_order(scores, rules(initial={"a": 10}, max_ratio=0.5))) == 5
    assert len(removal_order(scores, rules(initial={"a": 10}, max_ratio=0.999))) == 9


def test_global_pruning_spares_the_layer_that_matters():
    """By hand: the second layer's channels are all weaker than the first's, and all but a tenth of them go first."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 3)).eval()
    example = (torch.randn(2, 6),)
    with torch.no_grad():
        model[2].weight[:9] *= 1e-3
        model[4].weight[:, :9] *= 1e-3
    pruned = prune(model, example, make(scope="global", ratio=0.45))
    assert (pruned[0].out_features, pruned[2].out_features) == (10, 1)
    assert [prune(model, example, make(ratio=0.45))[index].out_features for index in (0, 2)] == [6, 6]


@pytest.mark.parametrize("measure", MEASURES)
def test_every_measure_ranks(measure):
    model = tiny.backbone()
    stanza = make(ratio=0.5, importance=measure)
    pruned = prune(model, EXAMPLE, stanza, TRAIN)
    assert widths(pruned) == [1, 2, 4, 4]
    again = prune(model, EXAMPLE, stanza, TRAIN)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in pruned.state_dict().items())


def pair(first, second):
    """Two layers of four hidden units of given norms in and out."""
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 3, bias=False)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.diag(torch.tensor(first)))
        model[1].weight.copy_(torch.ones(3, 4) * torch.tensor(second))
    return model


def kept(measure, train=None):
    """Which of four hidden units two are left of."""
    model = pair([1.0, 2.0, 3.0, 4.0], [4.0, 1.0, 1.0, 0.1])
    pruned = prune(model, (torch.eye(4),), make(ratio=0.5, importance=measure), train)
    return pruned[0].weight.abs().sum(0).nonzero().flatten().tolist()


def test_measures_by_hand():
    # sums of squares 1 + 48, 4 + 3, 9 + 3, 16 + 0.03; of absolute values 1 + 12, 2 + 3, 3 + 3, 4 + 0.3
    assert kept("magnitude_l2") == [0, 3]
    assert kept("magnitude_l1") == [0, 2]


def test_taylor_keeps_what_moves_the_loss():
    """Inputs that only ever come in through two units leave the others without gradient."""
    inputs = torch.eye(4)[[1, 2, 1, 2]]
    assert kept("taylor", (inputs, torch.tensor([0, 1, 2, 0]))) == [1, 2]


@pytest.mark.parametrize(("scope", "target"), itertools.product(["layer", "global"], [0.8, 0.5, 0.25]))
def test_a_target_cost_is_met(scope, target):
    """No more than asked, and less by no more than one channel."""
    model = wide()
    left = share(prune(model, EXAMPLE, make(scope=scope, target_cost=target)), model)
    assert target - 0.06 < left <= target


def test_steps_end_where_one_step_ends():
    model = wide()
    assert widths(prune(model, EXAMPLE, make(ratio=0.5, steps=4))) == [4, 8, 8]
    one, three = (share(prune(model, EXAMPLE, make(target_cost=0.5, steps=steps)), model) for steps in (1, 3))
    assert abs(one - three) < 0.05 and three <= 0.5


def test_fine_tuning_follows_every_step(log_lines):
    stanza = make(ratio=0.5, steps=3, fine_tune={"epochs": 2, "step_epochs": 1})
    prune(tiny.backbone(), EXAMPLE, stanza, TRAIN)
    assert [line.split(":")[0] for line in log_lines] == [
        "pruning, step 1 of 3", "epoch 1 of 1", "pruning, step 2 of 3", "epoch 1 of 1",
        "pruning, step 3 of 3", "epoch 1 of 2", "epoch 2 of 2",
    ]  # fmt: skip


def test_a_model_without_labels_learns_to_answer_as_before():
    model, unknown = tiny.backbone(), torch.full_like(LABELS, -1)
    raw = prune(model, EXAMPLE, make(ratio=0.5))
    options = {"epochs": 8, "learning_rate": 0.01, "distillation": 1.0}
    taught = prune(model, EXAMPLE, make(ratio=0.5, fine_tune=options), (IMAGES, unknown))
    with torch.no_grad():
        agree = [(each(IMAGES).argmax(1) == model(IMAGES).argmax(1)).double().mean() for each in (raw, taught)]
    assert agree[1] > 0.9 > agree[0]


def test_distillation_at_full_share_does_not_see_labels():
    stanza = make(ratio=0.5, fine_tune={"epochs": 1, "distillation": 1.0})
    right, wrong = (prune(tiny.backbone(), EXAMPLE, stanza, (IMAGES, labels)) for labels in (LABELS, (LABELS + 1) % 3))
    assert torch.equal(right(IMAGES), wrong(IMAGES))
    stanza = make(ratio=0.5, fine_tune={"epochs": 1, "distillation": 0.5})
    right, wrong = (prune(tiny.backbone(), EXAMPLE, stanza, (IMAGES, labels)) for labels in (LABELS, (LABELS + 1) % 3))
    assert not torch.equal(right(IMAGES), wrong(IMAGES))
