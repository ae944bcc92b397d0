"""Heartbeats: the recipe's data, the script that trains its backbone, and what a run of it writes."""

import subprocess
import sys
from pathlib import Path

import fork_server
import numpy as np
import pytest
from outside_data import needs

from dynamic_exit.core.user_code import load_function
from dynamic_exit.pipeline import Metrics

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "recipes" / "ecg.yaml"
#: Of the majority class, on the heartbeats that nothing is trained on.
MOST_COMMON = 0.6

pytestmark = [needs("ecg", "ECG5000"), pytest.mark.usefixtures("data_environment")]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """Weights from the committed script, in fewer epochs than it takes by default, and what it printed."""
    path = tmp_path_factory.mktemp("ecg") / "backbone.safetensors"
    command = [sys.executable, ROOT / "recipes/ecg/train.py", path, "--pretrain", "4", "--epochs", "20"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return path, done.stdout


def test_few_heartbeats_have_labels_and_no_split_shares_any():
    load = load_function(f"{ROOT / 'recipes/ecg/data.py'}:load")
    splits = {name: load(name) for name in ("train", "unlabelled", "dev")}
    assert sum(len(labels) for _, labels in splits.values()) == 500
    assert {series.shape[1:] for series, _ in splits.values()} == {(1, 140)}
    assert len(splits["train"][1]) < 60 and set(splits["train"][1].tolist()) == set(range(5))
    assert len({row.tobytes() for series, _ in splits.values() for row in series}) == 500
    assert np.bincount(splits["dev"][1]).max() < MOST_COMMON * len(splits["dev"][1])


def test_the_script_trains_a_backbone_that_is_better_than_the_most_common_class(backbone):
    path, printed = backbone
    assert path.is_file() and "pre-trained on 253 heartbeats" in printed
    assert float(printed.splitlines()[-1].partition("%")[0]) > 100 * MOST_COMMON + 10


def test_the_recipe_is_valid(backbone):
    done = fork_server.run(fork_server.COMMAND, "validate", RECIPE, "--set", f"model.weights={backbone[0]}")
    assert done.returncode == 0, done.stderr
    assert "52 train, 123 calibration, 124 test, 201 unlabelled samples" in done.stdout


def test_a_run_makes_savers_from_few_labels(backbone, tmp_path):
    series = {"make": "series", "shares": [0.2], "epochs": 8, "pretrain": {"epochs": 4, "segment": 10}}
    short = [series, {"make": "minirocket", "shares": [0.2], "features": 840}]
    overrides = [f"model.weights={backbone[0]}", f"dynamic_exit.tiny_saver.candidates={short}"]
    overrides.append("dynamic_exit.tuning.cost=macs")  # what is made does not depend on the machine
    command = [argument for each in overrides for argument in ("--set", each)]
    done = fork_server.run(fork_server.COMMAND, "run", RECIPE, "--output", tmp_path / "out", *command)
    assert done.returncode == 0, done.stderr
    assert "series_0.2: pre-training, epoch 4 of 4" in (tmp_path / "out" / "run.log").read_text()
    metrics = Metrics.read(tmp_path / "out" / "metrics.json")
    assert {each.stage for each in metrics.candidates} == {"series_0.2", "minirocket_0.2"}
    assert all(each.accuracy is not None for each in metrics.candidates), [each.why for each in metrics.candidates]
