"""A small network, images for it and its exported part."""

import numpy as np
import pytest
import torch
from torch import nn

from dynamic_exit.onnx.export import export_part


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)).eval()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(64, 1, 6, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def part(network):
    return export_part("net", network, ("image",), "logits", (torch.zeros(2, 1, 6, 6),))
