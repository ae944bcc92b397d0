"""Savers that take some of a model's inputs."""

import pytest
import torch
from torch import nn

from dynamic_exit.artifact.saved_model import load_model, save_model
from dynamic_exit.errors import ModelError
from dynamic_exit.runtime.model import DynamicExitModel

X, Y = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.arange(12.0).reshape(6, 2)


class Both(nn.Module):
    input_names = ("x", "y")

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x, y):
        return self.layer(torch.cat([x, y], dim=1))


class OnlyY(nn.Module):
    def __init__(self, *input_names):
        super().__init__()
        self.input_names, self.layer = input_names, nn.Linear(2, 3)

    def forward(self, y):
        return self.layer(y)


def model(saver):
    torch.manual_seed(0)
    return DynamicExitModel([Both()], input_names=["x", "y"], savers={"saver": saver}, thresholds=[-1.0]).eval()


def test_a_saver_gets_the_inputs_that_it_states():
    torch.manual_seed(1)
    saver = OnlyY("y").eval()
    dynamic = model(saver)
    assert torch.equal(dynamic(X, Y).logits, saver(Y))
    assert torch.equal(dynamic.all_stage_logits(X, Y)["saver"], saver(Y))
    dynamic.set_thresholds([2.0])
    assert torch.equal(dynamic(X, Y).logits, dynamic.segments[0](X, Y))


def test_an_archive_keeps_what_it_takes(tmp_path):
    dynamic = model(OnlyY("y").eval())
    save_model(dynamic, tmp_path / "saved", (X, Y))
    loaded = load_model(tmp_path / "saved")
    for rows in (1, 6):
        assert torch.equal(loaded(X[:rows], Y[:rows]).logits, dynamic(X[:rows], Y[:rows]).logits)


def test_an_input_that_nothing_gives_is_refused():
    with pytest.raises(ModelError, match="saver 'saver' takes 'z', which nothing gives; known are: x, y"):
        model(OnlyY("z"))
