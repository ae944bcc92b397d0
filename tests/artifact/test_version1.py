"""Folders that version 1 wrote, which `folders_of_version_1/make.py` made, still load and answer as they did then."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dynamic_exit.analysis.inspect import inspect_folder
from dynamic_exit.artifact.manifest import parse_manifest, read_manifest
from dynamic_exit.artifact.model_config import DynamicExitModelConfig
from dynamic_exit.artifact.standalone import load_runner
from dynamic_exit.chain.evidence import Evidence
from dynamic_exit.errors import ExportError
from dynamic_exit.integrations.neural_compressor.serialization import load
from dynamic_exit.modeling import DynamicExitModelForImageClassification as Model

FOLDERS = Path(__file__).with_name("folders_of_version_1")
WRITTEN = ("single", "segments", "sequence", "torch")


def answers(name):
    with np.load(FOLDERS / name / "answers.npz") as held:
        return dict(held)


def assert_same(found, expected):
    assert np.array_equal(found.exit_index, expected["exit_index"])
    np.testing.assert_allclose(found.logits, expected["logits"], atol=1e-4)
    np.testing.assert_allclose(found.confidence, expected["confidence"], atol=1e-5)


@pytest.mark.parametrize("name", WRITTEN)
def test_the_folder_of_a_run_answers_as_it_did(name):
    expected = answers(name)
    for load_folder in (Model.from_pretrained, load_runner):
        model = load_folder(FOLDERS / name)
        assert_same(model(expected["images"]), expected)
        assert model.operating_point.name == "accuracy-drop-1%"


@pytest.mark.parametrize("name", WRITTEN)
def test_it_is_described_as_it_was(name):
    found = inspect_folder(FOLDERS / name)
    assert (found["default"], found["version"], found["stages"][-1]) == ("accuracy-drop-1%", 1, "final")
    assert found["labels"] == ["left", "middle", "right"]
    assert found["target"] == ("torch" if name == "torch" else "onnxruntime")


@pytest.mark.parametrize("name", WRITTEN)
def test_it_is_saved_again_and_loads(name, tmp_path):
    Model.from_pretrained(FOLDERS / name).save_pretrained(tmp_path / "copy")
    assert_same(Model.from_pretrained(tmp_path / "copy")(answers(name)["images"]), answers(name))


def test_a_model_saved_from_memory_answers_as_it_did():
    expected = answers("memory")
    model = load(FOLDERS / "memory")
    assert model.thresholds == pytest.approx((0.9, float("inf")))
    with torch.no_grad():
        assert_same(model(torch.from_numpy(expected["images"])), expected)
        expected = answers("static")
        logits = load(FOLDERS / "static")(torch.from_numpy(expected["images"]))
    np.testing.assert_allclose(logits, expected["logits"], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("segments", lambda c: c["parts"].pop("fuse"), "breaks the format of `parts` at 'fuse'; export it anew"),
        ("segments", lambda c: c.pop("parts"), "breaks the format of `parts` at 'segments'; export it anew"),
        ("sequence", lambda c: c["parts"]["exits"][0].pop("takes"), "breaks the format of `parts` at 'takes'"),
        ("single", lambda c: c.update(stages=["other"]), "names the stages other, the model has"),
        ("segments", lambda c: c["parts"]["exits"][0].update(position=7), "breaks the format at `chain`"),
    ],
    ids=["evidence", "parts", "inputs", "stages", "position"],
)
def test_one_that_lacks_a_key_or_contradicts_itself_is_refused(name, change, message, tmp_path):
    folder = Path(shutil.copytree(FOLDERS / name, tmp_path / "copy"))
    content = json.loads((folder / "config.json").read_text())
    change(content)
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(ExportError, match=message) as refused:
        load_runner(folder)
    assert "\n" not in str(refused.value)


def test_a_model_from_memory_that_lacks_a_key_is_refused(tmp_path):
    folder = Path(shutil.copytree(FOLDERS / "memory", tmp_path / "copy"))
    content = json.loads((folder / "dynamic_model.json").read_text())
    del content["stages"][0]["takes"]
    (folder / "dynamic_model.json").write_text(json.dumps(content))
    with pytest.raises(ExportError, match="dynamic_model.json breaks its format at 'takes'; save the model anew"):
        load(folder)


def test_only_keys_that_are_older_are_upgraded():
    manifest = read_manifest(FOLDERS / "sequence")
    assert (manifest.version, manifest.evidence) == (1, Evidence("mean"))
    assert [tap.position for tap in manifest.chain.taps] == [-1, 0, 1]
    assert set(manifest.files) == manifest.chain.roles.keys()


def test_names_that_transformers_gives_two_classes_are_kept(tmp_path):
    """It leaves them out of the file, as they are its default; the classes are called so all the same."""
    names = {0: "LABEL_0", 1: "LABEL_1"}
    chain = {"inputs": ["x"], "segments": [["x"]]}
    DynamicExitModelConfig(id2label=names, chain=chain).save_pretrained(tmp_path)
    assert read_manifest(tmp_path).labels == tuple(names.values())
    content = json.loads((FOLDERS / "single" / "config.json").read_text())
    del content["id2label"]
    assert parse_manifest(content).labels == tuple(names.values())
