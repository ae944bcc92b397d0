"""A folder for torch: Neural Compressor's own stages, behind the same classes."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tiny
import torch

from dynamic_exit import DynamicExitModelForImageClassification as Model
from dynamic_exit.artifact.folder import checksum
from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.core.batching import DEFAULT_BATCH_SIZE
from dynamic_exit.errors import DynamicExitError, ExportError
from dynamic_exit.points.operating_point import point_thresholds
from dynamic_exit.records import Records

INPUTS, LABELS = tiny.samples("test")


@pytest.fixture(scope="module")
def config(ran_torch):
    return json.loads((ran_torch.folder / "config.json").read_text())


def stages_of(config, kind):
    """Name and position of all savers, or of all exits."""
    stages = [(stage["name"], stage["position"]) for stage in config["chain"]["stages"]]
    return [(name, place) for name, place in stages if (place < 0) == (kind == "saver")]


@pytest.fixture(scope="module")
def programs(ran_torch, config):
    """What each stage's file holds, by name of the stage; segments by number."""
    files = config["files"]
    named = {place: files[f"segment{place}"] for place in range(len(config["chain"]["segments"]))}
    for kind in ("saver", "exit"):
        named |= {name: files[f"{kind}{index}"] for index, (name, _) in enumerate(stages_of(config, kind))}
    return {name: torch.export.load(ran_torch.folder / file) for name, file in named.items()}


@pytest.fixture(scope="module")
def model(ran_torch):
    return Model.from_pretrained(ran_torch.folder)


@pytest.fixture(scope="module")
def runs(programs):
    """What runs each stage, by the same names."""
    return {name: program.module(check_guards=False) for name, program in programs.items()}


@torch.no_grad()
def every_stage(runs, config, images):
    """Logits of every stage, by hand: savers on the images, exits on what their segments hand on."""
    given = torch.from_numpy(images)
    answers, hidden = {name: runs[name](given) for name, _ in stages_of(config, "saver")}, given
    for place in range(len(config["chain"]["segments"])):
        hidden = runs[place](hidden)
        here = [name for name, position in stages_of(config, "exit") if position == place]
        answers |= {name: runs[name](hidden) for name in here}
    return {**answers, "final": hidden}


def test_the_folder_says_what_runs_it(ran_torch, config):
    assert (config["target"], config["layout"], config["compile"]) == ("torch", "segments", False)
    files = {path.relative_to(ran_torch.folder).as_posix() for path in (ran_torch.folder / "stages").iterdir()}
    assert files == set(config["checksums"]) and all(file.endswith(".pt2") for file in files)
    assert not (ran_torch.folder / "model.onnx").exists()
    card = (ran_torch.folder / "README.md").read_text()
    assert "torch" in card and "int8" in card and "onnx" not in card
    metrics = ran_torch.result.metrics
    assert metrics.timing.runtime.startswith("torch ") and metrics.target == "torch"


def test_neural_compressors_integers_are_inside(programs, config):
    exits = {name for name, _ in stages_of(config, "exit")}
    assert exits and len(programs) > len(exits) + 2
    for name, program in programs.items():
        operators = {str(node.target) for node in program.graph.nodes}
        dtypes = {tensor.dtype for tensor in (*program.state_dict.values(), *program.constants.values())}
        assert any("quantize_per_tensor" in each for each in operators) == (name not in exits)
        assert (torch.int8 in dtypes) == (name not in exits)


def test_nothing_of_the_samples_is_inside(programs):
    for program in programs.values():
        assert all(tensor.count_nonzero() == 0 for tensor in program.example_inputs[0])


@pytest.mark.parametrize("batch", [1, 7, 150])
def test_it_answers_as_its_stages_by_hand_at_every_operating_point(runs, config, model, batch):
    seen, settings = set(), []
    for name in (*model.operating_points.names, "backbone"):
        model.set_operating_point(name)
        settings.append(model.thresholds)
    # and each stage alone, whichever the points prefer
    settings += [[-1 if each == stage else np.inf for each in model.stages] for stage in model.stages]
    for start in range(0, 21 if batch == 1 else len(INPUTS), batch):
        rows = INPUTS[start : start + batch]
        answers = every_stage(runs, config, rows)
        chain = list(answers)
        sure = torch.stack([answers[stage].softmax(1).amax(1) for stage in chain]).numpy()
        for thresholds in settings:
            found = model(rows, thresholds=thresholds)
            expected = (sure > np.append(np.float32(thresholds), -1)[:, None]).argmax(0)
            assert found.exit_index.tolist() == expected.tolist()
            logits = np.stack([answers[chain[index]][row].numpy() for row, index in enumerate(expected)])
            np.testing.assert_allclose(found.logits, logits, atol=1e-5)
            seen.update(expected)
    assert len(seen) == len(model.stages) + 1, "else some stage never answered"


def test_records_are_what_the_loaded_folder_answers(ran_torch, model):
    records, (inputs, labels) = Records.read(ran_torch.folder / "records.npz"), tiny.samples("calibration")
    assert (records.labels == labels).all()
    for stage in (*model.stages, "final"):
        alone = [-1 if each == stage else np.inf for each in model.stages]
        # in the batches of the recorder: with others, sums may end in other bits and integers beside these
        batches = [
            model(inputs[i : i + DEFAULT_BATCH_SIZE], thresholds=alone)
            for i in range(0, len(inputs), DEFAULT_BATCH_SIZE)
        ]
        row = records.index(stage)
        answered = np.concatenate([answer.logits.argmax(1) for answer in batches])
        assert np.array_equal(records.topk_classes[row, :, 0], answered)
        confidence = np.concatenate([answer.confidence for answer in batches])
        np.testing.assert_allclose(records.topk_probabilities[row, :, 0], confidence, atol=1e-6)
    for point in ran_torch.result.points.points:
        model.set_operating_point(point.name)
        expected = evaluate(records, point.configuration).prediction
        assert (model(inputs).logits.argmax(1) == expected).mean() > 0.98


def test_both_targets_come_from_one_recipe(ran, ran_torch, model):
    """Other arithmetic of the same 8 bits: nearly all samples get the same answer."""
    session = onnxruntime.InferenceSession(str(ran.folder / "model.onnx"), providers=["CPUExecutionProvider"])
    stages = json.loads(session.get_modelmeta().custom_metadata_map["stages"])
    for stage in set(stages) & set(model.stages) | {"final"}:
        limits = np.float32([-1 if each == stage else np.inf for each in stages])
        theirs = session.run(["logits"], {"input": INPUTS, "thresholds": limits})[0].argmax(1)
        ours = model(INPUTS, thresholds=[-1 if each == stage else np.inf for each in model.stages]).logits.argmax(1)
        assert (ours == theirs).mean() > 0.9
    assert [point.name for point in ran.result.points.points] == list(model.operating_points.names)


def test_it_is_switched_saved_and_loaded_again(ran_torch, model, tmp_path):
    points = model.operating_points
    budget = points.by_name("frugal").cost_ratio
    best = max(point.accuracy for point in points.points if point.cost_ratio <= budget)
    chosen = model.set_operating_point(budget=budget)
    assert chosen.cost_ratio <= budget and chosen.accuracy == best
    assert np.array_equal(model.thresholds, point_thresholds(model.operating_point, model.stages))
    model.save_pretrained(tmp_path / "copy")
    names = {path.relative_to(ran_torch.folder) for path in ran_torch.folder.rglob("*")}
    names.remove(Path("run.log"))  # of the run, not of the model
    assert {path.relative_to(tmp_path / "copy") for path in (tmp_path / "copy").rglob("*")} == names
    again = Model.from_pretrained(tmp_path / "copy", operating_point=chosen.name)
    assert np.array_equal(again(INPUTS).logits, model(INPUTS).logits)
    assert isinstance(again(torch.from_numpy(INPUTS)).logits, torch.Tensor)
    assert again(INPUTS[:0]).logits.shape == (0, tiny.CLASSES)


def test_the_commands_take_it(ran_torch, command):
    code, out, _ = command("inspect", ran_torch.folder, "--json")
    assert (code, json.loads(out)["target"]) == (0, "torch")
    data = ran_torch.recipe.parent / "data" / "test.npz"
    code, out, _ = command("evaluate", ran_torch.folder, "--data", data, "--json")
    points = ran_torch.result.points
    by_name = {point.name: point for point in (points.backbone, *points.points)}
    assert code == 0
    for row in json.loads(out):
        assert row["accuracy"] == pytest.approx(by_name[row["name"]].accuracy)
        assert row["cost_ratio"] == pytest.approx(by_name[row["name"]].cost_ratio)


def test_the_benchmark_compares_static_and_dynamic_torch(ran_torch, command):
    data = ran_torch.recipe.parent / "data" / "test.npz"
    code, out, said = command("benchmark", ran_torch.folder, "--data", data, "--batch-size", "64", "--json")
    assert code == 0, said
    found = json.loads(out)
    names = [row["name"] for row in found["rows"]]
    assert names == ["backbone", *ran_torch.result.points.names] and found["runtime"].startswith("torch ")
    for row, point in zip(found["rows"][1:], ran_torch.result.points.points, strict=True):
        assert row["accuracy"] == pytest.approx(point.accuracy)
        assert row["ideal_seconds_per_sample"]["64"] > 0
    assert all(row["seconds_per_sample"]["64"]["median"] > 0 and row["numerics"] == "int8" for row in found["rows"])


@pytest.mark.parametrize("option", [{"provider": "CPUExecutionProvider"}, {"session_options": object()}])
def test_options_of_onnxruntime_are_refused(ran_torch, option):
    with pytest.raises(ExportError, match="is for torch, provider= and session_options= are for onnxruntime"):
        Model.from_pretrained(ran_torch.folder, **option)


def test_options_of_torch_are_refused_for_onnxruntime(ran):
    with pytest.raises(ExportError, match="is for onnxruntime, compile= is for torch; leave it out$"):
        Model.from_pretrained(ran.folder, compile=True)


@pytest.fixture
def copy(ran_torch, tmp_path):
    return shutil.copytree(ran_torch.folder, tmp_path / "copy")


def edit(folder, change):
    content = json.loads((folder / "config.json").read_text())
    change(content)
    (folder / "config.json").write_text(json.dumps(content))


def test_altered_and_unknown_things_are_named(copy):
    edit(copy, lambda content: content.update(target="tpu"))
    with pytest.raises(ExportError, match="names the target 'tpu'; known are: onnxruntime, openvino, torch$"):
        Model.from_pretrained(copy)
    edit(copy, lambda content: content.update(target="torch"))
    part = copy / "stages" / "segment0.pt2"
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    with pytest.raises(ExportError, match="segment0.pt2' is not the file that was exported: its checksum differs"):
        Model.from_pretrained(copy)


def test_a_pickle_in_an_archive_is_refused(copy):
    part = copy / "stages" / "segment0.pt2"
    with zipfile.ZipFile(part, "a") as archive:
        archive.writestr(archive.namelist()[0].split("/")[0] + "/data/weights/evil.pkl", b"cos\nsystem\n.")
    edit(copy, lambda content: content["checksums"].update({"stages/segment0.pt2": checksum(part)}))
    with pytest.raises(DynamicExitError, match="segment0.pt2' holds pickled objects, which can run any code"):
        Model.from_pretrained(copy)
