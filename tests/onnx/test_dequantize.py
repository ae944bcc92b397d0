"""Static int8 undone: the float graph with rounded weights."""

import numpy as np
import pytest
import torch
from torch import nn

from dynamic_exit.onnx.dequantize import dequantize_part
from dynamic_exit.onnx.export import export_part
from dynamic_exit.onnx.quantize import QuantizationOptions, quantize_part
from dynamic_exit.onnx.session import PartSession


@pytest.fixture(scope="module")
def quantized():
    """A small network with the activations that a quantizer takes in, in float and int8, and its inputs."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU6(), nn.Flatten(), nn.Linear(64, 5))
    module = nn.Sequential(*layers).eval()
    with torch.no_grad():
        module[2].weight *= 20  # so that ReLU6 is at its limit
    images = torch.randn(64, 2, 8, 8)
    part = export_part("net", module, ["x"], "logits", (images[:2],))
    feeds = [{"x": images.numpy()}]
    return part, quantize_part(part, feeds, QuantizationOptions()), images.numpy()


def test_a_dequantized_part_has_the_operators_of_the_float_part(quantized):
    part, int8, _ = quantized
    kinds = [sorted(node.op_type for node in each.proto.graph.node) for each in (part, dequantize_part(int8))]
    assert [kind for kind in kinds[1] if kind != "Identity"] == [kind for kind in kinds[0] if kind != "Identity"]


def test_a_dequantized_part_differs_from_float_by_rounded_weights_alone(quantized):
    part, int8, images = quantized
    answers = {key: PartSession(each).run(images) for key, each in
               {"float": part, "int8": int8, "back": dequantize_part(int8)}.items()}  # fmt: skip
    spread = answers["float"].std()
    assert np.abs(answers["back"] - answers["float"]).max() < 0.1 * spread
    assert np.abs(answers["back"] - answers["float"]).mean() < np.abs(answers["int8"] - answers["float"]).mean()


def test_a_float_part_stays_as_it_is(quantized):
    part, _, images = quantized
    assert np.array_equal(PartSession(dequantize_part(part)).run(images), PartSession(part).run(images))
