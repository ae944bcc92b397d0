"""`torch.compile` of a dynamic model, part by part, with the default backend."""

import copy
import shutil

import numpy as np
import pytest
import tiny  # noqa: E402  (the tiny world lies beside the other tests)
import torch
from torch import nn

from dynamic_exit import DynamicExitModelForImageClassification
from dynamic_exit.cost import node_macs
from dynamic_exit.graph import Classifier, capture, find_cuts, split
from dynamic_exit.pipeline.run import run
from dynamic_exit.recipe import read_recipe
from dynamic_exit.runtime.model import DynamicExitModel

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None, reason="torch.compile needs a C++ compiler"
)


def block(width_in: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width_in, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())


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


def test_a_folder_for_torch_answers_alike_compiled_and_not(tmp_path):
    changes = {"dynamic_exit__tiny_saver": None, "dynamic_exit__early_exit__count": 1}
    changes["dynamic_exit__tuning__points"] = [{"max_accuracy_drop": 0.1}]
    folder = run(read_recipe(tiny.build(tmp_path, export__target="torch", **changes))).folder
    eager = DynamicExitModelForImageClassification.from_pretrained(folder)
    compiled = DynamicExitModelForImageClassification.from_pretrained(folder, compile=True)
    inputs, alike = tiny.samples("test")[0], []
    for name in (*eager.operating_points.names, "backbone"):
        for model in (eager, compiled):
            model.set_operating_point(name)
        for batch in (150, 7, 1):
            wanted, found = eager(inputs[:batch]), compiled(inputs[:batch])
            close = (wanted.exit_index == found.exit_index) & (abs(found.logits - wanted.logits).max(1) < 1e-4)
            alike.extend(close)
    # what lies on the edge between two integers may fall to either side of it
    assert np.mean(alike) > 0.95
