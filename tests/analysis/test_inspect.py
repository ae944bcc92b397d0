"""What a file says of itself is a copy of the manifest, and `inspect` holds it against it."""

import json
import shutil

import onnx
import pytest

from dynamic_exit.analysis.inspect import inspect_folder
from dynamic_exit.artifact import manifest as manifests
from dynamic_exit.artifact import model_config
from dynamic_exit.artifact.file_metadata import file_chain
from dynamic_exit.artifact.manifest import read_manifest
from dynamic_exit.artifact.standalone import load_runner
from dynamic_exit.errors import ExportError
from dynamic_exit.modeling import AutoDynamicExitModel, DynamicExitModelForImageClassification


def metadata_of(folder):
    return {entry.key: entry.value for entry in onnx.load(folder / "model.onnx").metadata_props}


def test_the_metadata_of_a_file_are_a_copy_of_the_manifest(ran):
    manifest, said = read_manifest(ran.folder), metadata_of(ran.folder)
    assert file_chain(said, manifest.inputs) == manifest.chain
    assert {key: json.loads(value) for key, value in said.items() if key not in ("chain", "operating_points")} == {
        "version": manifest.version,
        "stages": [*manifest.stages],
        "labels": [*manifest.labels],
        "default": manifest.default,
    }


def move(config):
    config["chain"]["stages"][-1]["position"] -= 1


def rename(config):
    config["chain"]["stages"][0]["name"] = "other"


def move_tap(config):
    config["chain"]["taps"] = [{"position": 0, "inputs": ["hidden"]}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename, "config.json says that stages is ('other', "),
        (
            lambda config: config.update(default="frugal"),
            "config.json says that default is frugal, model.onnx says acc",
        ),
        (lambda config: config["id2label"].update({"0": "up"}), "config.json says that labels is ('up', "),
        (lambda config: config["inputs"][0].update(shape=[3]), "config.json says that inputs is ("),
        (lambda config: config["chain"].update(evidence="mean"), "describes other parts or evidence than model.onnx"),
        (move, "describes other parts or evidence than model.onnx"),
    ],
    ids=["stages", "default", "labels", "inputs", "evidence", "position"],
)
def test_a_manifest_that_says_something_else_than_the_file_is_refused(change, message, ran, tmp_path):
    folder = shutil.copytree(ran.folder, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ExportError) as refused:
        inspect_folder(folder)
    assert message in str(refused.value) and "\n" not in str(refused.value)
    assert str(refused.value).endswith("; export it anew")


def test_stages_that_do_not_fit_the_files_are_refused_by_who_loads(ran, ran_segments, tmp_path):
    for name, of, change, message in (
        ("single", ran, rename, "config.json names the stages other, "),
        ("segments", ran_segments, move_tap, "does not fit the files beside it: exit "),
    ):
        folder = shutil.copytree(of.folder, tmp_path / name)
        config = json.loads((folder / "config.json").read_text())
        change(config)
        (folder / "config.json").write_text(json.dumps(config))
        for load in (DynamicExitModelForImageClassification.from_pretrained, load_runner):
            with pytest.raises(ExportError, match=message):
                load(folder)


def test_a_file_without_a_manifest_says_what_it_is(ran, tmp_path):
    folder = shutil.copytree(ran.folder, tmp_path / "copy")
    (folder / "config.json").unlink()
    alone, whole = inspect_folder(folder), inspect_folder(ran.folder)
    assert {key: alone[key] for key in alone if key != "files"} == {key: whole[key] for key in alone if key != "files"}


@pytest.mark.parametrize(
    "open_folder",
    [DynamicExitModelForImageClassification.from_pretrained, AutoDynamicExitModel.from_pretrained, load_runner],
)
def test_the_manifest_is_read_once_when_a_folder_is_opened(open_folder, ran, monkeypatch):
    read, parse = [], manifests.parse_manifest

    def count(values):
        read.append(values)
        return parse(values)

    for module in (manifests, model_config):
        monkeypatch.setattr(module, "parse_manifest", count)
    model = open_folder(ran.folder)
    assert len(read) == 1
    assert model.stages == read_manifest(ran.folder).stages
