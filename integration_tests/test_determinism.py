"""What decides a run's result: the recipe and its seed, and neither the test split nor the process."""

import os
import subprocess

import numpy as np
import short_command
import tiny  # noqa: E402  (the tiny world lies beside the other tests)
import torch

from dynamic_exit.cli.main import main
from dynamic_exit.pipeline.run import run
from dynamic_exit.recipe import read_recipe


def test_two_processes_give_the_same_points_and_records(tmp_path, monkeypatch, capsys):
    """With other hash seeds, as on another day; the number of threads decides the last bits of torch's sums."""
    other = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"  # than this process's, most often drawn
    arguments = ["run", str(tiny.build(tmp_path)), "--output"]
    environment = short_command.environment(
        PYTHONHASHSEED=other,
        OMP_NUM_THREADS=str(torch.get_num_threads()),
        DYNAMIC_EXIT_CACHE=str(tmp_path / "cache1"),
    )
    command = [*short_command.COMMAND, *arguments, str(tmp_path / "1")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    monkeypatch.setenv("DYNAMIC_EXIT_CACHE", str(tmp_path / "cache2"))  # each makes everything itself
    main([*arguments, str(tmp_path / "2")])
    for name in ("operating_points.json", "records.npz", "model.onnx", "config.json", "recipe.yaml"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes(), name


def test_the_test_split_decides_nothing(tmp_path):
    """With other test samples: the same stages at the same thresholds, and other figures."""
    recipe = tiny.build(tmp_path, dynamic_exit__tiny_saver=None, quantization=None)
    first = run(read_recipe(recipe))
    inputs, labels = tiny.samples("test")
    np.savez(tmp_path / "data" / "test.npz", inputs=inputs + np.float32(0.5), labels=(labels + 1) % 3)
    second = run(read_recipe(recipe, {"export.directory": str(tmp_path / "second")}))
    assert [p.stages for p in first.points.points] == [p.stages for p in second.points.points]
    assert first.points.baseline.accuracy > 0.9 > second.points.baseline.accuracy
