"""The recipe's pruning of a real ResNet-56, fine-tuned on a few images only."""

import os
import re
from pathlib import Path

import fork_server
import pytest
import torch
from outside_data import DATA, needs

from dynamic_exit.core.user_code import load_function
from dynamic_exit.cost import count_macs
from dynamic_exit.passes.pruning import load_pruned

ROOT = Path(__file__).resolve().parents[1]
FEW = '{train: "train[:2%]", calibration: "dev[:3%]", test: "dev[3%:6%]"}'

pytestmark = needs("cifar10", "CIFAR-10")


def test_the_benchmark_prunes_to_its_goal_and_saves_what_it_made(tmp_path):
    path = ROOT / "integration_tests" / "benchmarks" / "pruning.py"
    script = f"import runpy; runpy.run_path({str(path)!r}, run_name='__main__')"
    options = ["--set", f"data.splits={FEW}", "--set", "pruning.fine_tune.epochs=1", "--save", tmp_path / "pruned"]
    surroundings = {**os.environ, "DYNAMIC_EXIT_DATA": str(DATA)}
    done = fork_server.run(script, "--threads", "1", *options, environment=surroundings)
    assert done.returncode == 0, done.stderr
    before, after, fewer = re.search(r"(\S+) M before, (\S+) M after, (\S+)% fewer", done.stdout).groups()
    assert (float(before), float(fewer) >= 40) == (125.5, True)
    resnet = load_function(f"{ROOT / 'recipes' / 'cifar10' / 'models.py'}:resnet")
    pruned = load_pruned(resnet(depth=56), tmp_path / "pruned")
    assert count_macs(pruned, (torch.zeros(2, 3, 32, 32),)) == pytest.approx(1e6 * float(after), rel=1e-3)
    for number, width in enumerate((16, 32, 64), start=1):
        blocks = getattr(pruned, f"layer{number}")
        # what the shortcuts add up stays, as channels of zeros are put beside it; inside, widths are multiples of 8
        assert {block.conv2.out_channels for block in blocks} == {width}
        assert all(block.conv1.out_channels % 8 == 0 for block in blocks)
    assert float(re.search(r"before, (\S+)% after", done.stdout)[1]) > 50
