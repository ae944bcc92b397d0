"""`torch.compile` of a dynamic model, part by part, with the default backend."""

import copy
import shutil

import pytest
import torch
from torch import nn

from dynamic_exit.cost import node_macs
from dynamic_exit.graph import Classifier, capture, find_cuts, split
from dynamic_exit.runtime.model import DynamicExitModel


def block(width_in: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width_in, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())


@pytest.mark.skipif(shutil.which("gcc") is None, reason="the default backend of torch.compile needs a C++ compiler")
def test_compiled_parts_answer_like_eager_ones():
    torch.manual_seed(0)
    network = nn.Sequential(block(1, 8), block(8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)).eval()
    images = torch.randn(40, 1, 8, 8)
    program = capture(Classifier(network).eval(), (images[:2],))
    cuts = find_cuts(program, node_macs(program.graph_module, program.example_inputs))[:1]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)).eval()
    model = DynamicExitModel(split(program, cuts), input_names=program.input_names, exits={"exit": (0, head)})
    with torch.no_grad():
        confidence = model.all_stage_logits(images)["exit"].softmax(1).amax(1)
        # between two confidences, where rounding decides nothing
        middle = confidence.sort().values[19:21].mean().item()
        model.set_thresholds([middle])
        compiled = copy.deepcopy(model)
        compiled.compile_parts()
        for batch in (40, 7, 1):
            wanted, found = model(images[:batch]), compiled(images[:batch])
            assert torch.equal(wanted.exit_index, found.exit_index)
            torch.testing.assert_close(found.logits, wanted.logits, atol=1e-5, rtol=1e-5)
    assert model(images).exit_index.unique().tolist() == [0, 1]
