"""Segments of convolutional backbones bring what they take into one layout, and answer the same."""

import numpy as np
import pytest
import torch
from torch import nn

from dynamic_exit.onnx.export import export_part
from dynamic_exit.onnx.memory_format import with_layout
from dynamic_exit.onnx.quantize import QuantizationOptions, quantize_part
from dynamic_exit.onnx.session import PartSession


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, hidden):
        return (hidden + self.conv(hidden)).relu()


def part(channels, takes="hidden"):
    torch.manual_seed(0)
    return export_part("segment1", Block(channels).eval(), [takes], "hidden", (torch.randn(2, channels, 5, 5),))


def pools(part):
    return [node.op_type for node in part.proto.graph.node].count("MaxPool")


@pytest.mark.parametrize("batch", [1, 3])
def test_answers_stay_the_same(batch):
    plain = part(16)
    changed = with_layout(plain)
    assert pools(changed) == 1 and pools(plain) == 0
    maps = np.random.default_rng(0).normal(size=(batch, 16, 5, 5)).astype(np.float32)
    np.testing.assert_allclose(PartSession(changed).run(maps), PartSession(plain).run(maps), atol=1e-6)
    odd = np.full((1, 16, 5, 5), -np.inf, np.float32)
    odd[0, 0, 0, 0] = np.nan
    assert np.isnan(PartSession(changed).run(odd)).any()


def test_it_is_done_once():
    once = with_layout(part(16))
    assert with_layout(once) is once


def test_others_stay_as_they_are():
    maps = np.random.default_rng(0).normal(size=(8, 16, 5, 5)).astype(np.float32)
    int8 = quantize_part(part(16), [{"hidden": maps}], QuantizationOptions())
    linear = export_part("segment1", nn.Linear(16, 16).eval(), ["hidden"], "hidden", (torch.randn(2, 16),))
    for each in (part(12), part(16, takes="image"), int8, linear):
        assert with_layout(each) is each
