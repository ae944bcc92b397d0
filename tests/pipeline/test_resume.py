"""A run that is interrupted while it trains exits goes on, and gives what an uninterrupted one gives."""

import shutil
import signal

import fork_server
import pytest
import tiny
from log_lines import log_lines, log_to

from dynamic_exit.errors import OutputError, PassError
from dynamic_exit.pipeline.run import run
from dynamic_exit.points.operating_point import OperatingPoints
from dynamic_exit.recipe import read_recipe

EXITS = {"count": 1, "training": {"epochs": 6, "weighting": "reach"}}
CHANGES = {"quantization": None, "dynamic_exit__early_exit": EXITS, "dynamic_exit__tuning__points": []}
SAME = ("operating_points.json", "records.npz", "model.onnx", "config.json")


def interrupted(recipe, line="epoch 2 of 6", resume=False):
    """Run a recipe until it logs a line, as by Ctrl-C; return all that it logged."""
    said = []

    def stop(told):
        said.append(told)
        if line in told:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), log_to(stop):
        run(recipe, resume=resume)
    return said


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A recipe and the folder of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("resume")
    path = tiny.build(folder, dynamic_exit__tiny_saver=None, **CHANGES)
    return path, run(read_recipe(path)).folder


@pytest.fixture(scope="module")
def stopped(world, tmp_path_factory):
    """What a run leaves behind that was interrupted after the second epoch."""
    folder = tmp_path_factory.mktemp("stopped") / "out"
    interrupted(into(world, folder))
    return folder.with_name("out.partial")


def into(world, folder, **overrides):
    return read_recipe(world[0], {"export.directory": str(folder), **overrides})


def test_a_resumed_run_writes_what_an_uninterrupted_one_writes(world, stopped, tmp_path, command):
    shutil.copytree(stopped, tmp_path / "out.partial")
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    work = {f"out.partial/work/{name}" for name in ("features.f16", "features.json", "exits.safetensors")}
    assert left == {"out.partial/run.log", *work}
    code, out, err = command("run", world[0], "--output", tmp_path / "out", "--resume", "--verbose")
    assert code == 0, err
    assert "exits: training continues after epoch 2\n" in err
    assert "dynamic_exit.pipeline.run: model and data: 3 classes; " in err
    assert "features: taken from" in err
    for name in SAME:
        assert (tmp_path / "out" / name).read_bytes() == (world[1] / name).read_bytes(), name
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in world[1].iterdir()}
    log = (tmp_path / "out" / "run.log").read_text().splitlines()
    stopped_at = next(number for number, line in enumerate(log) if line.endswith(" KeyboardInterrupt"))
    assert any("exits, epoch 1 of 6" in line for line in log[:stopped_at])
    assert any("exits: training continues after epoch 2" in line for line in log[stopped_at:])
    assert any("verified: " in line for line in log[stopped_at:])


def test_a_run_that_failed_after_training_goes_on_with_other_goals(world, tmp_path):
    """What the goals were decides nothing about the training."""
    goals = {"dynamic_exit.tuning.max_accuracy_drop": 0.2}
    interrupted(into(world, tmp_path / "out", **goals), "stages in use")
    with log_lines() as said:
        result = run(into(world, tmp_path / "out"), resume=True)
    assert "exits: training continues after epoch 6" in said
    assert result.points == OperatingPoints.read(world[1] / "operating_points.json")


KILLED = """
import os, signal, sys
from pathlib import Path
from dynamic_exit.pipeline.run import run
from dynamic_exit.recipe import read_recipe

recipe, folder, name = sys.argv[1:]
replace = os.replace

def kill_at(source, target):
    if Path(target).name == name:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

os.replace = kill_at
run(read_recipe(recipe, {"export.directory": folder}), resume=True)
"""


def killed(world, folder, name):
    """Go on with a run in a process that is killed as a file or folder of a name takes its place."""
    done = fork_server.run(KILLED, world[0], folder, name)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_run_that_is_killed_again_and_again_writes_what_an_undisturbed_one_writes(world, tmp_path):
    recipe, partial = into(world, tmp_path / "out"), tmp_path / "out.partial"
    interrupted(recipe, "stages in use")
    for name in ("records.npz", ".work", "out"):
        killed(world, tmp_path / "out", name)
        assert not (tmp_path / "out").exists() and partial.is_dir()
    assert not (partial / "work").exists(), "all is written"
    for message in ("", f"'{tmp_path}/out' is written and whole: nothing is left to do"):
        with log_lines() as said:
            result = run(recipe, resume=True)
        assert said == [message] * bool(message), "nothing is made again"
        assert result.folder == tmp_path / "out" and result.points == OperatingPoints.read(world[1] / SAME[0])
    for name in SAME:
        assert (tmp_path / "out" / name).read_bytes() == (world[1] / name).read_bytes(), name
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in world[1].iterdir()}
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    with pytest.raises(OutputError, match="is not empty; choose another one or empty it"):
        run(into(world, tmp_path / "out", seed=9), resume=True)


def test_without_resume_a_run_starts_anew(world, stopped, tmp_path):
    shutil.copytree(stopped, tmp_path / "out.partial")
    (tmp_path / "out.partial" / "records.npz").write_bytes(b"of a run that failed later")
    said = interrupted(into(world, tmp_path / "out"))
    assert not any("goes on" in line or "taken from" in line for line in said)
    assert {path.name for path in (tmp_path / "out.partial").iterdir()} == {"run.log", "work"}
    assert (tmp_path / "out.partial" / "run.log").read_text().count(" KeyboardInterrupt\n") == 1, "a log of its own"


def test_nothing_to_resume_is_said_and_the_run_starts_from_the_beginning(world, tmp_path):
    said = interrupted(into(world, tmp_path / "out"), "epoch 1 of 6", resume=True)
    assert f"nothing to resume in '{tmp_path}/out.partial': training starts from the beginning" in said


@pytest.mark.parametrize(
    "change",
    [{"seed": 9}, {"dynamic_exit.early_exit.training.learning_rate": 0.5}, {"data.splits.train": "train[:50%]"}],
    ids=lambda change: next(iter(change)),
)
def test_work_of_another_recipe_is_refused_and_kept(world, stopped, tmp_path, change):
    shutil.copytree(stopped, tmp_path / "out.partial")
    checkpoint = tmp_path / "out.partial" / "work" / "exits.safetensors"
    before = checkpoint.read_bytes()
    with pytest.raises(PassError, match="was made with other heads, settings, data or backbone; remove it, or run"):
        run(into(world, tmp_path / "out", **change), resume=True)
    assert checkpoint.read_bytes() == before
    assert not (tmp_path / "out").exists()


def test_savers_that_weigh_the_samples_belong_to_the_training(tmp_path):
    """With `weighting` heads learn from what the savers leave to them: other savers, other heads."""
    path = tiny.build(tmp_path, **CHANGES)
    interrupted(read_recipe(path))
    other = tiny.recipe()["dynamic_exit"]["tiny_saver"]["candidates"][1:]
    with pytest.raises(PassError, match="was made with other heads"):
        run(read_recipe(path, {"dynamic_exit.tiny_saver.candidates": other}), resume=True)
