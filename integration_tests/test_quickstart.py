"""The demo as a newcomer runs it, its bars, and what the README says of it."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from transformers import pipeline

from dynamic_exit import DynamicExitModelForImageClassification
from dynamic_exit.pipeline.inputs import load_run_inputs
from dynamic_exit.recipe import read_recipe

ROOT = Path(__file__).resolve().parents[1]
COMMAND = Path(sys.executable).with_name("dynamic-exit")
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Folder, printed output and seconds of one run of the quickstart."""
    folder = tmp_path_factory.mktemp("demo") / "quickstart"
    began = time.perf_counter()
    done = subprocess.run(
        [COMMAND, "run", "recipes/quickstart.yaml", "--output", str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout, time.perf_counter() - began


@pytest.fixture(scope="module")
def rows(demo) -> dict[str, dict]:
    return {row["name"]: row for row in json.loads((demo[0] / "metrics.json").read_text())["rows"]}


@pytest.fixture(scope="module")
def run_inputs():
    return load_run_inputs(read_recipe(ROOT / "recipes" / "quickstart.yaml"))


def test_the_folder_is_complete(demo):
    wanted = "model.onnx config.json operating_points.json metrics.json recipe.yaml records.npz report.html README.md"
    assert {path.name for path in demo[0].iterdir()} == {*wanted.split(), "preprocessor_config.json", "run.log"}


def test_half_a_point_allowed_keeps_accuracy_and_saves_most_of_the_cost(rows):
    point, backbone = rows["accuracy-drop-0.5%"], rows["backbone, float"]
    assert point["accuracy"] >= backbone["accuracy"] - 0.01
    assert point["cost_ratio"] <= 0.5
    assert 1 / point["speed_up"]["64"] <= 0.6


def test_the_file_is_hardly_larger_than_its_parts(demo):
    sizes = json.loads((demo[0] / "metrics.json").read_text())["bytes"]
    assert sizes["model"] == (demo[0] / "model.onnx").stat().st_size
    assert sizes["model"] <= 1.03 * sizes["parts"]


def test_figures_are_what_onnxruntime_answers_on_the_test_split(demo, rows, run_inputs):
    """Accuracy and exits once more, from the file and the data alone."""
    session = onnxruntime.InferenceSession(demo[0] / "model.onnx", providers=["CPUExecutionProvider"])
    stages = json.loads(session.get_modelmeta().custom_metadata_map["stages"])
    split = run_inputs.splits["test"]
    for point in json.loads((demo[0] / "operating_points.json").read_text())["points"]:
        used = {stage["stage"]: stage["threshold"] for stage in point["stages"]}
        thresholds = np.asarray([used.get(stage, np.inf) for stage in stages], np.float32)
        logits, exits, _ = session.run(None, {**split.inputs, "thresholds": thresholds})
        accuracy = (logits.argmax(1) == split.labels).mean()
        assert accuracy == pytest.approx(point["accuracy"], abs=1e-12)
        assert accuracy == pytest.approx(rows[point["name"]]["accuracy"], abs=1e-12)
        for index, stage in enumerate([*stages, "final"]):
            assert (exits == index).mean() == pytest.approx(point["exit_rates"].get(stage, 0.0), abs=1e-12)


def test_the_float_row_is_the_torch_backbone(rows, run_inputs):
    split = run_inputs.splits["test"]
    with torch.no_grad():
        predictions = run_inputs.backbone(*split.tensors.values()).argmax(1).numpy()
    assert rows["backbone, float"]["accuracy"] == pytest.approx((predictions == split.labels).mean(), abs=1e-12)


def test_nothing_trained_or_tuned_on_is_reported(run_inputs):
    images = {key: [row.tobytes() for row in split.inputs["x"]] for key, split in run_inputs.splits.items()}
    assert not {*images["train"], *images["calibration"]}.intersection(images["test"])


def test_verification_found_no_difference(demo):
    found = json.loads((demo[0] / "metrics.json").read_text())["verification"]
    for agreement in found.values():
        assert agreement["samples"] == 447
        assert agreement["exits_apart"] == agreement["predictions_apart"] == agreement["rounding"] == 0
        assert agreement["largest_difference"] <= 1e-4


def test_the_readme_shows_the_table_that_the_demo_prints(demo):
    shown = re.search(r"prints\n\n```text\n(.*?)```", README, re.DOTALL)[1]
    names = r"^(backbone, \w+|accuracy-drop-[\d.]+%) +([\d.]+) ± [\d.]+ % +([\d.]+)"
    printed = re.findall(names, demo[1], re.MULTILINE)
    told = re.findall(names, shown, re.MULTILINE)
    assert [row[0] for row in told] == [row[0] for row in printed]
    for (_, accuracy, cost), (_, accuracy_now, cost_now) in zip(told, printed, strict=True):
        # another machine's arithmetic may turn some of 447 samples
        assert abs(float(accuracy) - float(accuracy_now)) <= 1.0
        assert abs(float(cost) - float(cost_now)) <= 0.02


def test_the_readme_code_runs(demo):
    code = re.search(r"```python\n(import numpy.*?)```", README, re.DOTALL)[1]
    code = code.replace("build/quickstart", str(demo[0])) + "\nassert answer.logits.shape == (3, 10)\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_pipeline_gives_for_an_image_what_the_model_gives_for_its_array(demo, run_inputs):
    split = run_inputs.splits["test"]
    (samples,) = split.inputs.values()
    model = DynamicExitModelForImageClassification.from_pretrained(demo[0])
    classify = pipeline("image-classification", model=model, image_processor=str(demo[0]), device="cpu")
    images = [Image.fromarray(row[0].astype(np.uint8)) for row in samples]
    found = classify(images, top_k=1)
    answer = model(samples)
    assert [each[0]["label"] for each in found] == [model.config.id2label[label] for label in answer.logits.argmax(1)]
    assert [each[0]["score"] for each in found] == pytest.approx(answer.confidence.tolist(), abs=1e-5)


def test_the_readme_pipeline_runs(demo, tmp_path):
    Image.fromarray(np.full((8, 8), 9, np.uint8)).save(tmp_path / "digit.png")
    code = re.search(r"```python\n(from transformers.*?)```", README, re.DOTALL)[1]
    code = code.replace("build/quickstart", str(demo[0])).replace("digit.png", str(tmp_path / "digit.png"))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["validate", "recipes/quickstart.yaml"],
        ["inspect", "{folder}"],
        ["evaluate", "{folder}", "--data", "recipes/quickstart.yaml"],
        ["benchmark", "{folder}", "--batch-size", "64", "--operating-point", "accuracy-drop-0.5%"],
        ["tune", "{folder}/records.npz", "--output", "{folder}-points.json"],
        ["passes"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_the_readme_commands_run(demo, arguments):
    assert f"dynamic-exit {arguments[0]}" in README
    told = [argument.replace("{folder}", str(demo[0])) for argument in arguments]
    done = subprocess.run([COMMAND, *told], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
