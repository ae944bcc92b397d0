import copy

import pytest
import tiny
import torch
from torch import nn

from dynamic_exit.cost import count_macs
from dynamic_exit.errors import PassError
from dynamic_exit.passes import PruningStanza
from dynamic_exit.passes.pruning import prune


@pytest.fixture
def train():
    return tuple(torch.from_numpy(array) for array in tiny.samples("train"))


def stanza(ratio=0.5, epochs=0, **more):
    return PruningStanza(ratio=ratio, fine_tune={"epochs": epochs, **more})


def loss(model, train):
    with torch.no_grad():
        return nn.functional.cross_entropy(model(train[0]), train[1]).item()


def test_half_of_the_channels_of_every_layer_but_the_last_go(train):
    model = tiny.backbone()
    pruned = prune(model, (train[0][:2],), stanza(0.5))
    channels = [m.out_channels for m in pruned.modules() if isinstance(m, nn.Conv2d)]
    assert channels == [1, 2, 4, 4]
    (linear,) = (m for m in pruned.modules() if isinstance(m, nn.Linear))
    assert (linear.in_features, linear.out_features) == (16, tiny.CLASSES)
    assert pruned(train[0]).shape == (len(train[0]), tiny.CLASSES)
    assert count_macs(pruned, (train[0][:2],)) == 36 * 9 * (1 * 1 + 1 * 2 + 2 * 4 + 4 * 4) + 16 * 3


def test_the_smallest_channels_go():
    """By hand: the outputs of channels that are all zero are the same with and without them."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)).eval()
    with torch.no_grad():
        for row in (1, 2):
            model[0].weight[row] = model[0].bias[row] = 0
            model[2].weight[:, row] = 0
    x = torch.randn(6, 5)
    pruned = prune(model, (x,), stanza(0.5))
    assert pruned[0].out_features == 2
    torch.testing.assert_close(pruned(x), model(x))


def test_the_given_model_stays_bit_for_bit(train):
    model = tiny.backbone()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    prune(model, (train[0][:2],), stanza(0.3, epochs=1), train)
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.training


def test_fine_tuning_lowers_the_loss_and_follows_the_seed(train):
    model = tiny.backbone()
    raw = prune(model, (train[0][:2],), stanza(0.5))
    tuned, again, other = (
        prune(model, (train[0][:2],), stanza(0.5, epochs=6, learning_rate=0.01), train, seed) for seed in (0, 0, 1)
    )
    assert loss(tuned, train) < 0.8 * loss(raw, train)
    assert not tuned.training
    for key, value in tuned.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])
    assert not torch.equal(next(tuned.parameters()), next(other.parameters()))


def test_ratio_zero_changes_nothing(train):
    model = tiny.backbone()
    assert torch.equal(prune(model, (train[0][:2],), stanza(0.0))(train[0]), model(train[0]))


def test_refusals(train):
    narrow = nn.Sequential(nn.Linear(5, 1), nn.Linear(1, 3))
    with pytest.raises(PassError, match=r"^pruning with ratio 0.5 removed nothing; choose a larger ratio$"):
        prune(narrow, (torch.randn(2, 5),), stanza(0.5))
    without = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(PassError, match=r"^pruning found no linear layer with 3 outputs to protect"):
        prune(without, (train[0][:2],), stanza(0.5))
