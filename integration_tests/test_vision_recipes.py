"""The recipes of a Vision Transformer and of a ConvNeXt on digits, and their bars."""

import json
import os
from pathlib import Path

import fork_server
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", ["digits_vit", "digits_convnext"])
def test_half_a_point_allowed_keeps_accuracy_and_saves_cost(name, tmp_path):
    environment = {**os.environ, "DYNAMIC_EXIT_CACHE": str(tmp_path / "cache")}
    arguments = ("run", f"recipes/{name}.yaml", "--output", tmp_path / "out")
    done = fork_server.run(fork_server.COMMAND, *arguments, environment=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    rows = {row["name"]: row for row in metrics["rows"]}
    point = rows["accuracy-drop-0.5%"]
    assert metrics["samples"]["test"] == 447
    assert point["accuracy"] >= rows["backbone, float"]["accuracy"] - 0.01
    assert point["cost_ratio"] < 0.6
    # each point on each test sample, against the float torch model and against what ships
    for agreement in metrics["verification"].values():
        assert agreement["samples"] == 447
        assert agreement["exits_apart"] == agreement["predictions_apart"] == 0
