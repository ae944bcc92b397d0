"""A whole run whose weights need a file of their own, at a limit that even a tiny model passes."""

import json
import os
import shutil

import numpy as np
import pytest
import tiny

from dynamic_exit import DynamicExitModelForImageClassification as Model
from dynamic_exit import load_runner
from dynamic_exit.errors import ExportError
from dynamic_exit.onnx import external_data
from dynamic_exit.pipeline.run import run
from dynamic_exit.recipe import read_recipe

INPUTS, LABELS = tiny.samples("test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("large")
    path = tiny.build(place, quantization=None, dynamic_exit__early_exit=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(external_data, "LIMIT", 1000)
        return run(read_recipe(path)).folder


def test_it_lies_in_two_files_and_answers_as_it_was_measured(folder):
    assert (folder / "model.onnx.data").stat().st_size > 2000
    assert set(json.loads((folder / "config.json").read_text())["checksums"]) == {"model.onnx", "model.onnx.data"}
    model = Model.from_pretrained(folder)
    for point in (*model.operating_points.points, model.operating_points.backbone):
        model.set_operating_point(point.name)
        assert (model(INPUTS).logits.argmax(1) == LABELS).mean() == pytest.approx(point.accuracy)


def test_both_files_are_saved_and_needed(folder, tmp_path):
    model = Model.from_pretrained(folder)
    model.save_pretrained(tmp_path / "copy")
    assert np.array_equal(Model.from_pretrained(tmp_path / "copy")(INPUTS).logits, model(INPUTS).logits)
    (tmp_path / "copy" / "model.onnx.data").unlink()
    with pytest.raises(ExportError, match="has no model.onnx.data; it is no complete dynamic model, export it anew$"):
        Model.from_pretrained(tmp_path / "copy")


def test_the_commands_take_it(folder, command):
    code, out, _ = command("inspect", folder, "--json")
    assert code == 0
    assert "model.onnx.data" in json.loads(out)["files"]
    code, out, _ = command("evaluate", folder, "--data", folder.parent / "data" / "test.npz", "--json")
    assert code == 0


@pytest.mark.parametrize("kind", ["hub cache", "hard links"])
def test_weights_behind_links_answer_in_every_command(folder, command, tmp_path, kind):
    linked, blobs = tmp_path / "models--a--b" / "snapshots" / "abc", tmp_path / "models--a--b" / "blobs"
    linked.mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate(sorted(folder.iterdir())):
        blob = blobs / f"{number:040x}"
        shutil.copy(file, blob)
        if kind == "hub cache":
            (linked / file.name).symlink_to(f"../../blobs/{blob.name}")
        else:
            os.link(blob, linked / file.name)
    model = Model.from_pretrained(linked)
    wanted = Model.from_pretrained(folder)(INPUTS).logits
    assert np.array_equal(model(INPUTS).logits, wanted)
    assert np.array_equal(load_runner(linked)(input=INPUTS).logits, wanted)
    model.save_pretrained(tmp_path / "saved")
    assert np.array_equal(Model.from_pretrained(tmp_path / "saved")(INPUTS).logits, wanted)
    data = ("--data", folder.parent / "data" / "test.npz", "--quiet")
    for arguments in (
        ("inspect", linked),
        ("evaluate", linked, *data),
        ("benchmark", linked, *data, "--batch-size", 8),
    ):
        code, _, err = command(*arguments)
        assert (code, err) == (0, "")
