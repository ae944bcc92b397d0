"""`run --if-changed`: what a run was made of is known again."""

import json
import os
import shutil

import pytest
import tiny

from dynamic_exit.checks.input_fingerprint import fingerprint_inputs
from dynamic_exit.pipeline.unchanged import find_unchanged
from dynamic_exit.recipe import read_recipe


@pytest.fixture
def world(ran, tmp_path):
    """A copy of the folder of the recipe that was run, with what was written."""
    return shutil.copytree(ran.recipe.parent, tmp_path / "world")


def test_a_folder_that_was_moved_is_known_again(world):
    found = find_unchanged(read_recipe(world / "recipe.yaml"))
    assert found is not None and found.folder == world / "out"
    assert [point.name for point in found.points.points] == [row.name for row in found.metrics.rows][-3:]


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: tiny.write(folder, tiny.recipe(seed=4)),
        lambda folder: tiny.write(folder, tiny.recipe(dynamic_exit__early_exit__training__epochs=16)),
        lambda folder: (folder / "saver2.safetensors").write_bytes((folder / "saver4.safetensors").read_bytes()),
        lambda folder: (folder / "models.py").write_text(
            (folder / "models.py").read_text().replace("nn.AvgPool2d(2)", "nn.MaxPool2d(2)")
        ),
        lambda folder: shutil.copy(folder / "data" / "train.npz", folder / "data" / "test.npz"),
        lambda folder: (folder / "out" / "model.onnx").write_bytes(b"altered"),
        lambda folder: (folder / "out" / "metrics.json").unlink(),
    ],
    ids=["seed", "epochs", "weights", "code", "samples", "written file", "figures"],
)
def test_every_change_is_noticed(world, change):
    change(world)
    assert find_unchanged(read_recipe(world / "recipe.yaml")) is None


def test_times_comments_and_the_output_are_no_change(world):
    before = fingerprint_inputs(read_recipe(world / "recipe.yaml"))
    os.utime(world / "data" / "test.npz", (1, 1))
    with (world / "models.py").open("a") as file:
        file.write("\n# a comment\n")
    assert fingerprint_inputs(read_recipe(world / "recipe.yaml", {"export.directory": "elsewhere"})) == before


def test_the_command_says_that_nothing_has_changed_and_what_is_required_still_counts(world, command):
    written = (world / "out" / "metrics.json").stat().st_mtime_ns
    code, out, err = command("run", world / "recipe.yaml", "--if-changed")
    assert (code, err) == (0, "")
    assert out.endswith("out is up to date: nothing that it was made of has changed\n")
    code, out, _ = command("run", world / "recipe.yaml", "--if-changed", "--json")
    assert (code, json.loads(out)["folder"]) == (0, str(world / "out"))
    assert (world / "out" / "metrics.json").stat().st_mtime_ns == written


def test_values_may_come_from_the_environment(world, command, monkeypatch):
    monkeypatch.setenv("DYNAMIC_EXIT_SET", "seed=11 dynamic_exit.early_exit.count=1")
    code, out, _ = command("validate", world / "recipe.yaml", "--json")
    found = json.loads(out)
    assert (code, found["seed"], found["dynamic_exit"]["early_exit"]["count"]) == (0, 11, 1)
