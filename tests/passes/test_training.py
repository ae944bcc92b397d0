"""The training loop: rates by layer, and what it says."""

from dataclasses import dataclass

import pytest
import torch
from log_lines import log_lines
from torch import nn

from dynamic_exit.core.logging import Part
from dynamic_exit.passes.training import LabeledInputs, TrainingRun, UnlabeledInputs, train


@dataclass(frozen=True)
class Options:
    epochs: int = 1
    batch_size: int = 8
    learning_rate: float = 0.01
    weight_decay: float = 0.0
    augment: str = "none"


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4), nn.Linear(4, 2, bias=False))


def moves(decay):
    """How far one step of Adam, whose size is the rate, moves each parameter."""
    model = network()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(8) % 2

    def loss_of(logits, rows, batch, epoch):
        return nn.functional.cross_entropy(logits, labels[rows])

    train(model, LabeledInputs((inputs,), labels), loss_of, Options(), TrainingRun(0, "it", layer_decay=decay))
    return [float((a - b).abs().max()) for a, b in zip(model.parameters(), before, strict=True)]


def test_each_layer_has_its_share_of_the_rate_of_the_one_behind_it():
    weights = [moves(0.5)[place] for place in (0, 4, 6)]  # of the three linear layers
    assert weights == pytest.approx([0.0025, 0.005, 0.01], rel=0.01)
    norm = moves(0.5)[2]
    assert norm == pytest.approx(0.0025, rel=0.01), "it belongs to the layer before it"


def test_without_decay_all_layers_have_one_rate():
    assert [moves(1.0)[place] for place in (0, 2, 4, 6)] == pytest.approx([0.01] * 4, rel=0.01)


def test_what_is_no_classifier_has_no_accuracy_and_its_last_loss_is_returned():
    inputs, model = torch.ones(8, 4), nn.Linear(4, 4)

    def loss_of(output, rows, batch, epoch):
        return output.square().mean() * 0 + epoch

    with log_lines() as lines:
        loss = train(model, UnlabeledInputs((inputs,)), loss_of, Options(epochs=3), TrainingRun(0, "it"))
    assert loss == 3
    assert "epoch 3 of 3: loss 3.0000" in lines


def test_each_epoch_tells_how_far_the_training_is(caplog):
    run = TrainingRun(0, "it", log_prefix="convnet_0.1: ")
    with caplog.at_level("INFO", "dynamic_exit"):
        train(nn.Linear(4, 4), UnlabeledInputs((torch.ones(8, 4),)), lambda output, *_: output.mean(), Options(2), run)
    assert [record.part for record in caplog.records] == [Part("convnet_0.1", 0.5), Part("convnet_0.1", 1.0)]


def test_sgd_follows_gradients_as_long_as_they_are():
    """The first step with Nesterov momentum is 1.9 times rate times gradient; AdamW would clip it."""
    inputs, model = torch.full((8, 4), 30.0), nn.Linear(4, 1, bias=False)
    before = model.weight.detach().clone()
    run = TrainingRun(0, "it", optimizer="sgd")
    train(model, UnlabeledInputs((inputs,)), lambda output, rows, batch, epoch: output.mean(), Options(), run)
    assert torch.allclose(before - model.weight, torch.full((1, 4), 1.9 * 0.01 * 30.0), atol=1e-5)
