"""The recipes of a Vision Transformer and of a ConvNeXt on digits, and their bars."""

import json
import subprocess
from pathlib import Path

import pytest
import short_command

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", ["digits_vit", "digits_convnext"])
def test_half_a_point_allowed_keeps_accuracy_and_saves_cost(name, tmp_path):
    command = [*short_command.COMMAND, "run", f"recipes/{name}.yaml", "--output", str(tmp_path / "out")]
    environment = short_command.environment(DYNAMIC_EXIT_CACHE=str(tmp_path / "cache"))
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
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
