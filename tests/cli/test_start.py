"""The commands that need no recipe."""

import json

import pytest
import tiny
import yaml

from dynamic_exit.cli import start
from dynamic_exit.recipe import read_recipe
from dynamic_exit.start import Question

GIVEN = (
    "--model", "models.py:backbone", "--weights", "backbone.safetensors", "--data", "data",
    "--candidate", "models.py:saver=saver2.safetensors",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    tiny.build(tmp_path).unlink()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_compress_says_what_it_found_and_runs_the_recipe_that_it_writes(folder, command):
    code, out, err = command("compress", *GIVEN, "--max-accuracy-drop", "0.05", "--seed", 4, "--json")
    assert code == 0, err
    assert err.splitlines()[:4] == [
        "model: the function backbone of models.py",
        "data: 502 images (1 x 6 x 6, float32) of 3 classes",
        "splits: 192 train, 160 calibration, 150 test (as the data have them)",
        "wrote backbone-dynamic.yaml, the recipe that runs now",
    ]
    found = json.loads(out)
    assert found["folder"] == str(folder / "backbone-dynamic")
    assert "accuracy-drop-5%" in [row["name"] for row in found["rows"]]
    recipe = read_recipe(folder / "backbone-dynamic.yaml")
    assert (recipe.seed, recipe.dynamic_exit.tuning.max_accuracy_drop) == (4, 0.05)
    assert not (folder / "recipe.schema.json").exists()


def test_init_writes_a_recipe_that_is_valid_as_it_is_and_points_editors_to_its_schema(folder, command):
    code, out, err = command("init", *GIVEN, "--output", "small")
    assert (code, out) == (
        0,
        "wrote small.yaml, and recipe.schema.json for editors; run it with `dynamic-exit run small.yaml`\n",
    )
    assert (
        (folder / "small.yaml").read_text().startswith("# yaml-language-server: $schema=recipe.schema.json\n# model: ")
    )
    assert not (folder / "small").exists()
    code, schema, _ = command("schema")
    assert (code, json.loads(schema)) == (0, json.loads((folder / "recipe.schema.json").read_text()))
    assert command("validate", "small.yaml")[0] == 0


@pytest.mark.parametrize(
    ("target", "algorithms"),
    [
        ("onnxruntime", {"static_quant": {}, "pt2e_dynamic_quant": {}}),
        ("openvino", {"static_quant": {}, "pt2e_dynamic_quant": {}}),
        ("torch", None),
    ],
)
def test_eight_bits_are_measured_beside_float_or_left_out(folder, command, target, algorithms):
    """A single algorithm would be taken however slow it is, and eager torch gains no time by any."""
    code, _, err = command("init", *GIVEN[:6], "--target", target)
    assert code == 0, err
    recipe = read_recipe(folder / "backbone-dynamic.yaml")
    assert recipe.quantization == algorithms
    assert ("# quantization: {static_quant: {}}" in (folder / "backbone-dynamic.yaml").read_text()) == (not algorithms)


def test_another_recipe_is_replaced_only_if_wanted(folder, command):
    (folder / "mine.yaml").write_text("model: mine\n")
    message = "'mine.yaml' is there already; give --overwrite to replace it, or --recipe for another file"
    assert command("init", *GIVEN, "--recipe", "mine.yaml", "--quiet") == (2, "", f"dynamic-exit: {message}\n")
    assert command("init", *GIVEN, "--recipe", "mine.yaml", "--overwrite")[0] == 0
    assert command("init", *GIVEN, "--recipe", "mine.yaml")[0] == 0  # it would be the same
    assert yaml.safe_load((folder / "mine.yaml").read_text())["export"]["directory"] == "backbone-dynamic"


def test_a_folder_that_has_the_name_of_a_recipe_is_refused(folder, command):
    there = {*folder.iterdir()}
    message = "--output 'mine.yaml' is the folder that the run writes; give the recipe by --recipe"
    assert command("init", *GIVEN, "--output", "mine.yaml") == (2, "", f"dynamic-exit: {message}\n")
    assert {*folder.iterdir()} == there


def test_what_the_recipe_cannot_hold_is_refused_before_it_is_written(folder, command):
    code, out, err = command("init", *GIVEN, "--quiet", "--max-accuracy-drop", "1")
    assert (code, out) == (2, "") and "which allows a loss of 100 points; did you mean 0.01?" in err
    code, out, err = command("compress", *GIVEN, "--quiet", "--target", "onxn")
    assert (code, out) == (2, "") and "unknown export target 'onxn'; known are: onnxruntime" in err
    assert not list(folder.glob("*.yaml"))


def test_in_a_pipe_what_cannot_be_known_is_an_error_that_names_the_option(folder, command):
    rows = "\n".join(f"{'AB'[i % 2]},{'XYZ'[i % 3]},it was {i} o'clock" for i in range(30))
    (folder / "a.csv").write_text(f"first,second,words\n{rows}\n")
    code, out, err = command("compress", "--model", "models.py:backbone", "--data", "a.csv")
    assert (code, out) == (2, "")
    assert err == (
        "dynamic-exit: which column of 'a.csv' holds the labels cannot be known; give --label-column, one of first, "
        "second, words (such as first)\n"
    )


def test_a_terminal_is_asked_until_the_answer_is_possible(monkeypatch):
    answers, asked = iter(["half", "0-1"]), []

    def prompt(about, default, err):
        asked.append((about, default))
        return next(answers)

    monkeypatch.setattr(start.typer, "prompt", prompt)
    assert start._ask(Question("--pixels", "the range", ("0-255", "0-1"), "0-1")) == "0-1"
    assert asked == [("The range (0-255, 0-1)", "0-1")] * 2


def test_the_schema_takes_every_recipe_of_the_project(command):
    import jsonschema
    from documents import ROOT

    schema = json.loads(command("schema")[1])
    checker = jsonschema.Draft202012Validator(schema)
    for path in sorted((ROOT / "recipes").glob("*.yaml")):
        assert not [each.message for each in checker.iter_errors(yaml.safe_load(path.read_text()))], path
    wrong = {**yaml.safe_load((ROOT / "recipes" / "quickstart.yaml").read_text()), "sed": 3}
    assert [each.message for each in checker.iter_errors(wrong)]
