"""The demo as a newcomer runs it, its bars, and what README and tutorial say of it."""

import json
import re
import subprocess
import sys
from collections import Counter
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


@pytest.fixture(scope="module")
def rows(demo) -> dict[str, dict]:
    return {row["name"]: row for row in json.loads((demo.folder / "metrics.json").read_text())["rows"]}


@pytest.fixture(scope="module")
def run_inputs():
    return load_run_inputs(read_recipe(ROOT / "recipes" / "quickstart.yaml"))


def test_the_folder_is_complete(demo):
    of_samples = ("examples.json", "reference.json")
    wanted = "model.onnx config.json operating_points.json metrics.json recipe.yaml records.npz report.html README.md"
    assert {path.name for path in demo.folder.iterdir()} == {
        *wanted.split(),
        *of_samples,
        "preprocessor_config.json",
        "run.log",
    }


def test_half_a_point_allowed_keeps_accuracy_and_saves_most_of_the_cost(rows):
    point, backbone = rows["accuracy-drop-0.5%"], rows["backbone, float"]
    assert point["accuracy"] >= backbone["accuracy"] - 0.01
    assert point["cost_ratio"] <= 0.5
    assert 1 / point["speed_up"]["64"] <= 0.6


def test_the_file_is_hardly_larger_than_its_parts(demo):
    sizes = json.loads((demo.folder / "metrics.json").read_text())["bytes"]
    assert sizes["model"] == (demo.folder / "model.onnx").stat().st_size
    assert sizes["model"] <= 1.03 * sizes["parts"]


def test_figures_are_what_onnxruntime_answers_on_the_test_split(demo, rows, run_inputs):
    """Accuracy and exits once more, from the file and the data alone."""
    session = onnxruntime.InferenceSession(demo.folder / "model.onnx", providers=["CPUExecutionProvider"])
    stages = json.loads(session.get_modelmeta().custom_metadata_map["stages"])
    split = run_inputs.splits["test"]
    for point in json.loads((demo.folder / "operating_points.json").read_text())["points"]:
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
    found = json.loads((demo.folder / "metrics.json").read_text())["verification"]
    for agreement in found.values():
        assert agreement["samples"] == 447
        assert agreement["exits_apart"] == agreement["predictions_apart"] == agreement["rounding"] == 0
        assert agreement["largest_difference"] <= 1e-4


def figures(text: str, pattern: str) -> list[tuple[str, float, float]]:
    """Name, accuracy in percent and cost of each row of a table."""
    return [(name, float(accuracy), float(cost)) for name, accuracy, cost in re.findall(pattern, text, re.MULTILINE)]


@pytest.mark.parametrize("page", ["README.md", "docs/tutorials/first-model.md"])
def test_documents_show_the_table_that_the_demo_prints(demo, page):
    text = (ROOT / page).read_text(encoding="utf-8")
    columns = r"^{0}(backbone, \w+|accuracy-drop-[\d.]+%) *{1} *([\d.]+) ± [\d.]+ % *{1} *([\d.]+)"
    printed = figures(demo.printed, columns.format("", ""))
    told = figures(text, columns.format(r"\| ", r"\|") if page == "README.md" else columns.format("", ""))
    assert printed
    assert [row[0] for row in told] == [row[0] for row in printed]
    for (_, accuracy, cost), (_, accuracy_now, cost_now) in zip(told, printed, strict=True):
        # another processor's arithmetic trains another saver: with SSE4.1 alone 0.063 of the cost, not 0.023
        assert abs(accuracy - accuracy_now) <= 1.0
        assert abs(cost - cost_now) <= 0.08


def test_the_picture_shows_where_the_samples_of_the_demo_leave(demo, tmp_path):
    drawn = tmp_path / "chain.svg"
    command = [sys.executable, "docs/make_figures.py", str(demo.folder), "--output", str(drawn)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    now, told = (shares_by_kind(path) for path in (drawn, ROOT / "docs" / "images" / "chain.svg"))
    assert sum(now.values()) == pytest.approx(100, abs=0.3)
    # another processor's arithmetic trains another saver, from which fewer samples may leave
    assert all(now[kind] == pytest.approx(told[kind], abs=8.0) for kind in ("saver", "exit", "backbone"))


def shares_by_kind(picture: Path) -> Counter[str]:
    """Percentages of samples that leave at savers, exits and the backbone, as a picture tells them."""
    text, shares = picture.read_text(encoding="utf-8"), Counter()
    kinds = re.findall(r">(saver|exit|backbone)<", text)
    for kind, share in zip(kinds, re.findall(r">([\d.]+)% leave<", text), strict=True):
        shares[kind] += float(share)
    return shares


def test_a_pipeline_gives_for_an_image_what_the_model_gives_for_its_array(demo, run_inputs):
    split = run_inputs.splits["test"]
    (samples,) = split.inputs.values()
    model = DynamicExitModelForImageClassification.from_pretrained(demo.folder)
    classify = pipeline("image-classification", model=model, image_processor=str(demo.folder), device="cpu")
    images = [Image.fromarray(row[0].astype(np.uint8)) for row in samples]
    found = classify(images, top_k=1)
    answer = model(samples)
    assert [each[0]["label"] for each in found] == [model.config.id2label[label] for label in answer.logits.argmax(1)]
    likely = torch.softmax(torch.from_numpy(answer.logits), 1).amax(1)
    assert [each[0]["score"] for each in found] == pytest.approx(likely.tolist(), abs=1e-5)
