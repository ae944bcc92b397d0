"""A folder of one file a stage, beside the single file made of the same parts."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny
import torch

from dynamic_exit import DynamicExitModelForImageClassification as Model
from dynamic_exit.artifact.file_runner import FileRunner
from dynamic_exit.artifact.manifest import read_manifest
from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.errors import DynamicExitError, ExportError
from dynamic_exit.onnx.model_parts import ModelParts
from dynamic_exit.onnx.part import Part
from dynamic_exit.onnx.session import open_session
from dynamic_exit.onnx.stitch import stitch
from dynamic_exit.records import Records
from dynamic_exit.serving import write_triton_model

INPUTS, _ = tiny.samples("test")


@pytest.fixture
def model(ran_segments):
    return Model.from_pretrained(ran_segments.folder)


@pytest.fixture(scope="module")
def single(ran_segments):
    """The single file, stitched of the folder's parts."""
    manifest = read_manifest(ran_segments.folder)
    spec, names = manifest.chain, {}
    for kind in ("saver", "exit"):
        stages = [stage.name for stage in spec.stages if stage.kind == kind]
        names |= {f"{kind}{index}": name for index, name in enumerate(stages)}
    parts = {
        role: Part(names.get(role, role), onnx.load(ran_segments.folder / manifest.files[role]), inputs, "logits")
        for role, inputs in spec.roles.items()
    }
    places = [stage.position for stage in spec.stages if stage.kind == "exit"]
    chain = ModelParts(
        [part for role, part in parts.items() if role.startswith("saver")],
        [part for role, part in parts.items() if role.startswith("segment")],
        [(parts[f"exit{index}"], place) for index, place in enumerate(places)],
        spec.evidence,
        {tap.position: parts[f"tap{index}"] for index, tap in enumerate(spec.taps)},
    )
    off = [np.inf] * len(chain.stages)
    return FileRunner(open_session(stitch(chain, chain.segments[0].proto.graph.input, 3, off, {})), manifest)


def test_the_folder_holds_one_file_a_stage(ran_segments, model):
    config = json.loads((ran_segments.folder / "config.json").read_text())
    assert config["layout"] == "segments"
    assert not (ran_segments.folder / "model.onnx").exists()
    files = {path.relative_to(ran_segments.folder).as_posix() for path in (ran_segments.folder / "stages").iterdir()}
    assert files == set(config["checksums"])
    assert len(model.stages) >= 3
    assert any("memory" in stage["inputs"] for stage in config["chain"]["stages"]), "else no taps are tried"


@pytest.mark.parametrize("batch", [1, 7, 150])
def test_it_answers_like_the_single_file_at_every_operating_point(model, single, batch):
    assert model.stages == single.stages
    seen, limits = set(), []
    for name in (*model.operating_points.names, "backbone"):
        model.set_operating_point(name)
        limits.append(model.thresholds)
    # and each stage alone, whichever the points prefer
    limits += [[-1 if each == stage else np.inf for each in model.stages] for stage in model.stages]
    for thresholds in limits:
        for start in range(0, len(INPUTS), batch):
            rows = INPUTS[start : start + batch]
            answer = model(rows, thresholds=thresholds)
            logits, exit_index, confidence = single.run({"input": rows}, np.float32(thresholds))
            assert np.array_equal(answer.exit_index, exit_index)
            np.testing.assert_allclose(answer.logits, logits, atol=1e-5)
            np.testing.assert_allclose(answer.confidence, confidence, atol=1e-6)
            seen.update(exit_index)
    assert len(seen) == len(model.stages) + 1, "else some stage never answered"


def test_it_starts_at_the_default_and_answers_as_the_records_say(ran_segments, model):
    assert model.operating_point.name == "accuracy-drop-1%"
    inputs, _ = tiny.samples("calibration")
    records = Records.read(ran_segments.folder / "records.npz")
    expected = evaluate(records, model.operating_point.configuration)
    assert np.array_equal(model(inputs).logits.argmax(1), expected.prediction)


def test_kinds_of_input_and_output_are_those_of_the_single_file(model):
    assert isinstance(model(torch.from_numpy(INPUTS)).logits, torch.Tensor)
    answer = model(INPUTS)
    assert (answer.logits.dtype, answer.exit_index.dtype, answer.confidence.dtype) == (
        np.float32,
        np.int64,
        np.float32,
    )
    none = model(INPUTS[:0])
    assert (none.logits.shape, none.exit_index.shape, none.confidence.shape) == ((0, 3), (0,), (0,))


def test_it_is_saved_whole_and_loads_again(ran_segments, model, tmp_path):
    model.save_pretrained(tmp_path / "copy")
    names = {path.relative_to(ran_segments.folder) for path in ran_segments.folder.rglob("*")}
    names.remove(Path("run.log"))  # of the run, not of the model
    assert {path.relative_to(tmp_path / "copy") for path in (tmp_path / "copy").rglob("*")} == names
    assert np.array_equal(Model.from_pretrained(tmp_path / "copy")(INPUTS).logits, model(INPUTS).logits)


def test_the_commands_take_it(ran_segments, command, tmp_path):
    code, out, _ = command("inspect", ran_segments.folder, "--json")
    found = json.loads(out)
    assert (code, found["default"], found["fuse"]) == (0, "accuracy-drop-1%", "mean")
    assert found["inputs"] == ["input float32 (batch, 1, 6, 6)"]
    assert found["labels"] == ["left", "middle", "right"]
    assert "stages/segment0.onnx" in found["files"]
    data = ran_segments.recipe.parent / "data" / "test.npz"
    code, out, _ = command("evaluate", ran_segments.folder, "--data", data, "--json")
    assert code == 0
    points = ran_segments.result.points
    by_name = {point.name: point for point in (points.backbone, *points.points)}
    for row in json.loads(out):
        assert row["accuracy"] == pytest.approx(by_name[row["name"]].accuracy)
        assert row["cost_ratio"] == pytest.approx(by_name[row["name"]].cost_ratio)


@pytest.fixture
def copy(ran_segments, tmp_path):
    return shutil.copytree(ran_segments.folder, tmp_path / "copy")


def edit(folder, change):
    content = json.loads((folder / "config.json").read_text())
    change(content)
    (folder / "config.json").write_text(json.dumps(content))


def test_missing_and_altered_files_are_named(copy):
    part = copy / "stages" / "segment0.onnx"
    content = part.read_bytes()
    part.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ExportError, match="segment0.onnx' is not the file that was exported: its checksum differs"):
        Model.from_pretrained(copy)
    part.unlink()
    with pytest.raises(ExportError, match="has no stages/segment0.onnx; it is no complete dynamic model, export it"):
        Model.from_pretrained(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c["chain"].pop("segments"),
            "breaks the format at `chain.segments`: Field required; export it anew$",
        ),
        (lambda c: c.pop("chain"), "describes no chain; export it anew$"),
        (lambda c: c["files"].pop("saver0"), "names no file for the part 'saver0'; export it anew$"),
        (lambda c: c.update(layout="pieces"), "names the layout 'pieces'; known are: segments, single$"),
        (lambda c: c["chain"].update(segments=[]), "at `chain`: .* a chain needs inputs and segments; export it anew$"),
        (lambda c: c["chain"]["stages"].reverse(), "at `chain`: .* stages must be in order, savers first, and exits"),
        (lambda c: c["chain"]["stages"][0].update(name="final"), "at `chain`: .* none is called 'final'; export it"),
        (
            lambda c: c["chain"]["stages"][0].update(name="other"),
            "uses the stage 'saver.', which the file lacks; ",
        ),
        (lambda c: c["checksums"].update({"../x": ""}), "names the file '../x', which lies outside of its folder$"),
        (lambda c: c["files"].update(saver0="../x.onnx"), "'../x.onnx', which lies outside of its folder$"),
    ],
)
def test_a_configuration_of_something_else_is_refused(copy, change, message):
    edit(copy, change)
    with pytest.raises(DynamicExitError, match=message):
        Model.from_pretrained(copy)


def test_triton_takes_one_file_alone(ran_segments, tmp_path):
    with pytest.raises(ExportError, match="layout: segments; Triton takes one file"):
        write_triton_model(ran_segments.folder, tmp_path / "models", "tiny")
    assert not (tmp_path / "models").exists()
