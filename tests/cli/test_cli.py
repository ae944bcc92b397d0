import json

import numpy as np
import onnx
import pytest
import tiny
import yaml

from dynamic_exit.modeling import DynamicExitModelForImageClassification
from dynamic_exit.points.operating_point import OperatingPoints
from dynamic_exit.records import Records

POINTS = ["accuracy-drop-1%", "accuracy-drop-10%", "frugal"]


def answer(command, *arguments):
    """What a command prints as JSON; it says nothing else."""
    code, out, err = command(*arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_passes_lists_ours_and_the_hosts(command):
    found = answer(command, "passes")
    assert [name for name, entry in found.items() if entry["from"] == "dynamic_exit"][:3] == [
        "early_exit",
        "pruning",
        "tiny_saver",
    ]
    parameters = {p["name"]: p for p in found["tiny_saver"]["parameters"]}
    assert parameters["max_savers"]["default"] == "2"
    assert parameters["max_savers"]["range"] == "≥ 1"
    code, out, err = command("passes")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()[: len(found)]] == [*found], "a line each"
    assert answer(command, "passes", "tiny_saver") == found["tiny_saver"]
    code, out, err = command("passes", "early_exit")
    assert (code, err) == (0, "")
    assert "  count = 4  (≥ 1)\n      cuts that `positions: auto` picks\n" in out
    assert "training.distillation" in out
    message = "dynamic-exit: there is no pass 'prunning'; did you mean 'pruning'?\n"
    assert command("passes", "prunning") == (2, "", message)


def test_inspect_says_what_the_file_holds(ran, command):
    found = answer(command, "inspect", ran.folder)
    assert found["stages"] == ["saver2", "block1:linear", "block3:linear", "final"]
    assert found["labels"] == ["left", "middle", "right"]
    assert found["inputs"] == ["input float32 (batch, 1, 6, 6)"]
    assert (found["fuse"], found["default"], found["version"]) == ("none", "accuracy-drop-1%", 2)
    assert found["operating_points"] == json.loads((ran.folder / "operating_points.json").read_text())
    assert found["files"] == {path.name: path.stat().st_size for path in ran.folder.iterdir()}
    metadata = {entry.key: entry.value for entry in onnx.load(ran.folder / "model.onnx").metadata_props}
    assert json.loads(metadata["operating_points"]) == found["operating_points"]


def test_inspect_prints_every_point_with_its_thresholds(ran, command):
    code, out, err = command("inspect", ran.folder)
    assert (code, err) == (0, "")
    for point in ran.result.points.points:
        (line,) = (line for line in out.splitlines() if line.startswith(point.name + " "))
        error = (point.accuracy * (1 - point.accuracy) / point.samples) ** 0.5
        assert f" {100 * point.accuracy:.2f} ± {100 * error:.2f} % " in line
        row = ran.result.metrics.row(point.name)
        drop, error = point.accuracy_drop, row.accuracy_drop_standard_error
        assert f" {100 * drop:.2f} ± {100 * error:.2f} % " in line
        for stage in point.stages:
            assert f"{stage.stage} > {stage.threshold:.4f}" in line


@pytest.mark.parametrize("data", ["data/test.npz", "recipe.yaml"])
def test_evaluate_on_the_test_split_gives_the_reported_figures(ran, command, data):
    rows = answer(command, "evaluate", ran.folder, "--data", ran.recipe.parent / data)
    assert [row["name"] for row in rows] == ["backbone", *POINTS]
    for row, point in zip(rows, (ran.result.points.backbone, *ran.result.points.points), strict=True):
        assert row["accuracy"] == point.accuracy
        assert row["cost_ratio"] == pytest.approx(point.cost_ratio, rel=1e-12)
        assert {s: rate for s, rate in row["exit_rates"].items() if rate} == {
            s: r for s, r in point.exit_rates.items() if r
        }
        assert row["samples"] == tiny.SIZES["test"]


def test_evaluate_one_point_in_small_batches_on_other_samples(ran, command):
    path = ran.recipe.parent / "data" / "train.npz"
    (row,) = answer(command, "evaluate", ran.folder, "--data", path, "--operating-point", "frugal", "--batch-size", 7)
    whole = answer(command, "evaluate", ran.folder, "--data", path)[3]
    assert row == whole
    assert row["samples"] == tiny.SIZES["train"]
    assert sum(row["exit_rates"].values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--data", "nowhere.npz"),
            "data file 'nowhere.npz' does not exist; check the path and the names of the splits",
        ),
        (
            ("--data", "notes.txt"),
            "data 'notes.txt' must be an .npz file with inputs and labels, a text file (.csv, .tsv, .jsonl), a folder "
            "of class folders with images, or a recipe",
        ),
        (
            ("--data", "notes.csv"),
            "data 'notes.csv' is for text-classification, the model in '{folder}' for image-classification",
        ),
        (("--data", "small.npz"), "input 'input' must be of shape (batch, 1, 6, 6); got (4, 1, 3, 3)"),
        (
            ("--data", "other.npz"),
            "split 'data' has label 7 of sample 1, the model only classes 0 to 2; map the labels",
        ),
        (
            ("--data", "good.npz", "--operating-point", "frugl"),
            "there is no operating point 'frugl'; known are: accuracy-drop-1%, accuracy-drop-10%, backbone, frugal",
        ),
        (("--data", "empty.npz"), "split 'data' is empty; give it at least one sample"),
    ],
)
def test_evaluate_refuses(ran, command, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    inputs, labels = tiny.samples("test")
    np.savez("good.npz", inputs=inputs, labels=labels)
    np.savez("small.npz", inputs=np.zeros((4, 1, 3, 3), np.float32), labels=[0, 1, 2, 0])
    np.savez("other.npz", inputs=inputs[:2], labels=[0, 7])
    np.savez("empty.npz", inputs=inputs[:0], labels=labels[:0])
    said = message.format(folder=ran.folder)
    assert command("evaluate", ran.folder, *arguments) == (2, "", f"dynamic-exit: {said}\n")


def test_evaluate_prints_a_table(ran, command):
    code, out, err = command("evaluate", ran.folder, "--data", ran.recipe)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["accuracy", "cost", "saver2", "block1:linear", "block3:linear", "final"]
    assert [line.split()[0] for line in lines[1:5]] == ["backbone", *POINTS]
    right = ran.result.points.baseline.accuracy
    accuracy = [f"{100 * right:.2f}", "±", f"{100 * (right * (1 - right) / 150) ** 0.5:.2f}", "%"]
    assert lines[1].split()[1:] == [*accuracy, "1.000", "0%", "0%", "0%", "100%"]
    assert lines[-1] == "150 samples"


def test_validate_gives_the_resolved_recipe(ran, command):
    found = answer(command, "validate", ran.recipe, "--set", "seed=11", "--set", "dynamic_exit.early_exit.heads=[mlp]")
    assert found["seed"] == 11
    assert found["dynamic_exit"]["early_exit"]["heads"] == ["mlp"]
    assert found["dynamic_exit"]["tiny_saver"]["fuse"] == "none"
    assert found["model"]["name"] == f"{ran.recipe.parent}/models.py:backbone"


def test_a_written_recipe_is_valid_where_the_model_was_saved_again(ran, command, tmp_path):
    DynamicExitModelForImageClassification.from_pretrained(ran.folder).save_pretrained(tmp_path / "deep" / "copy")
    for folder in (ran.folder, tmp_path / "deep" / "copy"):
        code, out, err = command("validate", folder / "recipe.yaml")
        assert (code, err) == (0, "")
        assert out.startswith(f"{folder / 'recipe.yaml'} is valid: 3 classes")


def test_validate_writes_nothing(ran, command, tmp_path):
    recipe = tiny.build(tmp_path)
    before = tiny.tree(tmp_path)
    code, out, err = command("validate", recipe)
    assert (code, err) == (0, "")
    assert out == f"{recipe} is valid: 3 classes, 192 train, 160 calibration, 150 test samples, 2 candidates\n"
    assert tiny.tree(tmp_path) == before


def test_plan_shows_what_would_run_and_writes_nothing(command, tmp_path):
    recipe = tiny.build(tmp_path)
    before = tiny.tree(tmp_path)
    code, out, err = command("plan", recipe, "--set", "dynamic_exit.early_exit.training.epochs=3")
    assert code == 0 and tiny.tree(tmp_path) == before
    assert "splits: 192 train, 160 calibration, 150 test" in out
    assert "backbone: 34.44 k multiply-adds" in out and "cuts: 3 found, 2 in use" in out
    for line in ("exits", "candidates for savers", "estimated time", "export the backbone", "train exits"):
        assert line in out
    code, out, err = command("plan", recipe, "--set", "dynamic_exit.early_exit.positions=[nowhere]")
    assert (code, out) == (2, "") and err.startswith("dynamic-exit: the backbone has no cut 'nowhere'")


def test_run_writes_where_it_is_told_and_prints_what_it_measured(command, tmp_path, monkeypatch):
    """A small run: one exit, in float, no saver, with a key from the command line."""
    monkeypatch.chdir(tmp_path)
    exits = {"count": 1, "training": {"epochs": 5}}
    tiny.build(tmp_path / "world", quantization=None, dynamic_exit__tiny_saver=None, dynamic_exit__early_exit=exits)
    code, out, err = command(
        "run", "world/recipe.yaml", "--output", "made/here", "--json", "--set", "dynamic_exit.tuning.points=[]"
    )
    assert code == 0
    found = json.loads(out)
    assert found["folder"] == str(tmp_path / "made" / "here")
    points = OperatingPoints.read("made/here/operating_points.json")
    assert (
        [row["name"] for row in found["rows"]] == ["backbone, float", *points.names] == ["backbone, float", POINTS[0]]
    )
    assert found["rows"][1]["accuracy"] == points.points[0].accuracy
    assert not (tmp_path / "world" / "out").exists()
    assert "verified" in err
    # the recipe that was run, overrides and all
    written = yaml.safe_load((tmp_path / "made/here/recipe.yaml").read_text())
    assert (written["dynamic_exit"]["tuning"]["points"], written["export"]["directory"]) == ([], ".")
    # once more into the same place: refused, and nothing lost
    before = tiny.tree(tmp_path)
    code, out, err = command("run", "world/recipe.yaml", "--output", "made/here")
    message = f"dynamic-exit: output folder '{tmp_path}/made/here' is not empty; choose another one or empty it\n"
    assert (code, out, err) == (2, "", message)
    assert tiny.tree(tmp_path) == before


def test_tune_reads_the_records_of_a_run_once(ran, command, tmp_path, monkeypatch):
    read, reads = Records.read, []
    monkeypatch.setattr(Records, "read", lambda path: reads.append(path) or read(path))
    # where samples are few, it may say so
    code, out, _ = command(
        "tune", ran.folder / "records.npz", "--output", tmp_path / "points.json", "--max-accuracy-drop", 0.02,
        "--max-accuracy-drop", 0.2, "--fuse", "none", "--json",
        "--plot", tmp_path / "front.png",
    )  # fmt: skip
    found = json.loads(out)
    assert code == 0 and reads == [ran.folder / "records.npz"]
    assert found == json.loads((tmp_path / "points.json").read_text())
    assert [point["name"] for point in found["points"]] == ["accuracy-drop-2%", "accuracy-drop-20%"]
    half = len(Records.read(ran.folder / "records.npz")) // 2
    assert [point["samples"] for point in found["points"]] == [half, half]


def test_help_lists_the_commands_and_ends_well(command):
    code, out, _ = command("--help")
    assert code == 0
    for name in ("run", "validate", "evaluate", "inspect", "tune", "passes"):
        assert f" {name} " in out
