"""One recipe on two processes gives what it gives on one."""

import json
import shutil
from pathlib import Path

import fork_server
import numpy as np
import pytest
import short_command
import yaml

from dynamic_exit.records import Records

ROOT = Path(__file__).resolve().parents[1]
TORCHRUN = "import signal; signal.alarm(300); from torch.distributed.run import main; main()"
#: Workers that have imported what torchrun has; those of `short_command.MODULE` start and end as a user's.
FORKED = ("--start-method=fork", "--run-path", short_command.__file__)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """The digits' largest saver as a backbone that is quick to run, their smallest as its saver, and exits."""
    values = yaml.safe_load((ROOT / "recipes" / "quickstart.yaml").read_text())
    small, medium = yaml.safe_load((ROOT / "recipes" / "digits_vit.yaml").read_text())["dynamic_exit"]["tiny_saver"][
        "candidates"
    ]
    digits = ROOT / "recipes" / "digits"
    wide = {**medium["arguments"], "channels": [32] * 4, "stem_width": 16}
    large = {**medium, "weights": "digits/weights/saver_large.safetensors", "arguments": wide}
    for source in (small, large):
        source["weights"] = str(digits.parent / source["weights"])
    values["model"] = {key: value for key, value in large.items() if key != "stage"}
    values["data"]["path"] = f"{digits / 'data.py'}:load"
    values["dynamic_exit"]["tiny_saver"] = {"candidates": [small], "max_savers": 1, "fine_tune": {"epochs": 1}}
    values["dynamic_exit"]["early_exit"] = {
        "positions": "auto",
        "count": 1,
        "heads": ["linear"],
        "sequence": {},
        "training": {"epochs": 6, "weighting": "reach", "augment": "affine", "views": 2},
    }
    values["dynamic_exit"]["tuning"] = {"max_accuracy_drop": 0.01}
    path = tmp_path_factory.mktemp("processes") / "recipe.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def run(recipe, name, launcher, *options):
    """Run the command with a cache of its own, by torchrun or alone; return the folder and what was done."""
    folder = recipe.parent / name
    environment = short_command.environment(
        OMP_NUM_THREADS="1", DYNAMIC_EXIT_CACHE=str(recipe.parent / f"cache-{name}")
    )
    arguments = ["run", str(recipe), "--output", str(folder), *options]
    if launcher:
        arguments = ["--standalone", "--nproc-per-node=2", *launcher, *arguments]
    script = TORCHRUN if launcher else fork_server.COMMAND
    return folder, fork_server.run(script, *arguments, environment=environment, cwd=ROOT)


@pytest.fixture(scope="module")
def one(recipe):
    folder, done = run(recipe, "one", None)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def two(recipe):
    folder, done = run(recipe, "two", short_command.MODULE)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_two_processes_give_the_records_of_one(one, two):
    alone, shared = (Records.read(folder / "records.npz") for folder in (one, two[0]))
    assert alone.stages == shared.stages
    assert {stage.rpartition(":")[2] for stage in alone.stages} == {"finetuned", "linear", "sequence", "final"}
    for index, stage in enumerate(alone.stages):
        classes, probabilities = (
            [getattr(each, name)[index] for each in (alone, shared)] for name in ("topk_classes", "topk_probabilities")
        )
        right = [(each[:, 0] == alone.labels).mean() for each in classes]
        if alone.kinds[index] == "exit":  # trained on sums of gradients whose last bits differ
            assert right[0] == pytest.approx(right[1], abs=0.003), stage
            assert np.abs(probabilities[0] - probabilities[1]).max() < 0.01, stage
        else:
            assert np.array_equal(*classes) and np.array_equal(*probabilities), stage
    assert np.array_equal(alone.own_cost, shared.own_cost) and np.array_equal(alone.prefix_cost, shared.prefix_cost)


def test_two_processes_give_the_operating_points_of_one(one, two):
    alone, shared = (json.loads((folder / "operating_points.json").read_text()) for folder in (one, two[0]))
    assert alone["baseline"] == shared["baseline"]
    for point, other in zip(alone["points"], shared["points"], strict=True):
        assert point["name"] == other["name"]
        assert point["accuracy"] == pytest.approx(other["accuracy"], abs=0.005)
        assert point["cost_ratio"] == pytest.approx(other["cost_ratio"], abs=0.02)


def test_both_processes_work_and_one_of_them_speaks_and_writes(one, two, recipe):
    folder, done = two
    assert {path.name for path in folder.iterdir()} == {path.name for path in one.iterdir()}
    assert not folder.with_name("two.partial").exists()
    assert "features: 512 samples x 2 views" in done.stderr  # of 900: the rest is the other's
    assert done.stderr.count("exits, epoch 6 of 6") == done.stdout.count("wrote ") == 1
    entries = [len(list((recipe.parent / f"cache-{name}").rglob("*.zip"))) for name in ("one", "two")]
    assert entries[0] == entries[1] > 0


def test_what_fails_ends_all_processes_with_one_sentence(recipe, two):
    shutil.copytree(recipe.parent / "cache-two", recipe.parent / "cache-broken")  # all that comes before it fails
    folder, done = run(recipe, "broken", FORKED, "--set", "dynamic_exit.early_exit.training.learning_rate=1e30")
    assert done.returncode != 0
    assert done.stderr.count("dynamic-exit: the loss of exit head") == 1
    assert not folder.exists()
