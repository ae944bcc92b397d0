"""Folders that are not what they say, and places that cannot be written: one sentence each."""

import json
import re
import shutil

import numpy as np
import pytest
import tiny
import torch

from dynamic_exit import DynamicExitModelForImageClassification as Model
from dynamic_exit import load_runner
from dynamic_exit.artifact.folder import checksum
from dynamic_exit.errors import DynamicExitError, ExportError, OperatingPointError, OutputError

INPUTS, _ = tiny.samples("test")


@pytest.fixture
def copy(ran, tmp_path):
    return shutil.copytree(ran.folder, tmp_path / "copy")


def rewrite(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("place", ["file", "file/below", "file/below/that"])
def test_a_place_that_cannot_be_written_is_refused(ran, tmp_path, place):
    (tmp_path / "file").write_text("here already")
    with pytest.raises(OutputError) as refused:
        Model.from_pretrained(ran.folder).save_pretrained(tmp_path / place)
    assert re.fullmatch(
        rf"folder '{re.escape(str(tmp_path / place))}' cannot be written: [A-Z][a-z ]+; choose another one",
        str(refused.value),
    )
    assert (tmp_path / "file").read_text() == "here already"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (None, "a folder is named by text or a path; got None of type NoneType"),
        (3, "a folder is named by text or a path; got 3 of type int"),
        (["a"], "a folder is named by text or a path; got ['a'] of type list"),
        ("a" * 5000, f"'{'a' * 60}' cannot name a folder: File name too long; give another name"),
        ("a\0b", "'a\0b' cannot name a folder: embedded null byte; give another name"),
    ],
    ids=["none", "number", "list", "long", "null character"],
)
def test_what_names_no_folder_is_refused(ran, place, message):
    saved = Model.from_pretrained(ran.folder)
    for call in (Model.from_pretrained, load_runner, saved.save_pretrained):
        with pytest.raises(ExportError) as refused:
            call(place)
        assert str(refused.value) == message
        assert isinstance(refused.value, TypeError) == (not isinstance(place, str))


def test_one_flipped_bit_is_noticed(copy):
    content = bytearray((copy / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "model.onnx").write_bytes(content)
    with pytest.raises(ExportError) as refused:
        Model.from_pretrained(copy)
    assert str(refused.value) == (
        f"'{copy / 'model.onnx'}' is not the file that was exported: its checksum differs from that in config.json; "
        "download or export it anew"
    )


def test_the_checksum_is_written_by_the_run(ran):
    written = json.loads((ran.folder / "config.json").read_text())
    assert written["checksums"] == {"model.onnx": checksum(ran.folder / "model.onnx")}
    assert re.fullmatch("sha256:[0-9a-f]{64}", written["checksums"]["model.onnx"])


def test_a_folder_of_before_there_were_checksums_loads(ran, copy):
    """Format version 1 has gained keys; a folder without them is read as it was meant."""
    rewrite(
        copy / "config.json",
        lambda c: [c.pop(key) for key in ("_version", "checksums", "layout", "task", "chain", "default", "files")],
    )
    with pytest.warns(UserWarning, match="is of version 1 and has no checksum of 'model.onnx': an altered file is not"):
        model = Model.from_pretrained(copy)
    assert (model.config.layout, model.config.task) == ("single", "image-classification")
    assert np.array_equal(model(INPUTS).logits, Model.from_pretrained(ran.folder)(INPUTS).logits)


@pytest.mark.parametrize("load", [Model.from_pretrained, load_runner])
def test_a_folder_that_has_lost_its_checksums_is_refused(copy, load):
    """Who exchanges a model could leave them out otherwise."""
    rewrite(copy / "config.json", lambda c: c.update(checksums={}))
    with pytest.raises(
        ExportError, match="config.json' has no checksum of 'model.onnx', so that nobody can tell whether"
    ):
        load(copy)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "config.json",
            lambda c: c.update(model_type="bert"),
            "holds a model of type 'bert'; give one of type 'dynamic_exit'$",
        ),
        ("config.json", lambda c: c.pop("model_type"), "config.json' cannot be read: .*; export it anew$"),
        (
            "config.json",
            lambda c: c["chain"].update(stages=[{"name": "saver4", "position": -1, "inputs": ["input"]}]),
            "^config.json names the stages saver4, the model has saver2, block1:linear, block3:linear; export it anew$",
        ),
        (
            "operating_points.json",
            lambda c: c["points"][0]["stages"][0].update(threshold=float("nan")),
            "operating_points.json' is not JSON .NaN is no number of JSON.; write it with OperatingPoints.write$",
        ),
        (
            "operating_points.json",
            lambda c: c["points"][0].update(fuse="mean"),
            "^operating point 'accuracy-drop-1%' is for fuse: mean, the model has fuse: none; tune it anew$",
        ),
    ],
)
def test_a_file_of_something_else_is_refused(copy, name, change, message):
    rewrite(copy / name, change)
    with pytest.raises(DynamicExitError, match=message) as refused:
        Model.from_pretrained(copy)
    assert "\n" not in str(refused.value)


def test_broken_json_is_refused(copy):
    (copy / "config.json").write_text('{"model_type": "dyn')
    with pytest.raises(ExportError, match="config.json' cannot be read: "):
        Model.from_pretrained(copy)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.full((2, 1, 6, 6), "x"), "input 'input' must be of type float32; got <U1"),
        (np.zeros((2, 1, 6, 6), complex), "input 'input' must be of type float32; got complex128"),
        (np.array([None]), "input 'input' must be of type float32; got object"),
        (
            torch.ones(2, 1, 6, 6).to_sparse(),
            "input 'input' cannot be made an array: can't convert Sparse layout tensor to numpy. Use Tensor.to_dense() "
            "first; give it as one dense array",
        ),
        (
            torch.ones(2, 1, 6, 6, device="meta"),
            "input 'input' cannot be made an array: Cannot copy out of meta tensor; no data; give it as one dense "
            "array",
        ),
    ],
    ids=["text", "complex", "objects", "sparse", "meta"],
)
def test_what_is_no_number_is_refused(ran, wrong, message):
    with pytest.raises(ExportError) as refused:
        Model.from_pretrained(ran.folder)(wrong)
    assert str(refused.value) == message


def test_rows_of_several_lengths_are_refused(ran):
    with pytest.raises(ValueError, match=r"^input 'input' cannot be made an array: .*; give it as one dense array$"):
        Model.from_pretrained(ran.folder)([[1.0, 2.0], [3.0]])


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64, torch.int32])
def test_every_kind_of_number_is_taken_for_a_model_of_fractions(ran, kind):
    model, whole = Model.from_pretrained(ran.folder), torch.from_numpy(INPUTS).round()
    assert torch.equal(model(whole.to(kind)).logits, model(whole).logits)


def test_no_rows_give_no_answers(ran):
    answer = Model.from_pretrained(ran.folder)(INPUTS[:0])
    assert (answer.logits.shape, answer.exit_index.shape, answer.confidence.shape) == ((0, 3), (0,), (0,))


def test_exporting_needs_a_recipe_and_a_recipe_needs_exporting(ran):
    with pytest.raises(ExportError, match="^export=True needs a recipe; give recipe= a file, a mapping or a Recipe$"):
        Model.from_pretrained(ran.folder, export=True)
    with pytest.raises(ExportError, match="^a recipe came in without export=True; add it, or leave the recipe out$"):
        Model.from_pretrained(ran.folder, recipe=ran.recipe)


def test_an_unknown_point_is_answered_with_those_that_are_known(ran):
    with pytest.raises(OperatingPointError) as refused:
        Model.from_pretrained(ran.folder, operating_point="thrifty")
    assert str(refused.value) == (
        "there is no operating point 'thrifty'; known are: accuracy-drop-1%, accuracy-drop-10%, backbone, frugal"
    )
