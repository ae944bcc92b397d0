"""The example for browsers: its copy of a folder, and its module in Node where onnxruntime-web is there."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from dynamic_exit import load_runner
from dynamic_exit.errors import ExportError

WEB = Path(__file__).resolve().parents[1] / "recipes" / "examples" / "web"
#: Names a folder in which `npm install` has run with the example's package.json.
VARIABLE = "DYNAMIC_EXIT_ORT_WEB"
NODE = """
import * as ort from "onnxruntime-web";
import { readFile } from "node:fs/promises";
import { DynamicExitModel } from "./model.mjs";
const [folder, ...values] = process.argv.slice(2);
const model = await DynamicExitModel.load(ort, (name) => readFile(`${folder}/${name}`));
const x = Float32Array.from(values, Number);
const made = {};
for (const point of model.operatingPoints) made[point] = await model.classify({ x }, x.length / 64, point);
console.log(JSON.stringify(made));
"""


@pytest.fixture(scope="module")
def site(demo, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "model"
    subprocess.run([sys.executable, WEB / "prepare.py", demo.folder, folder], check=True)
    return folder


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 17, (12, 1, 8, 8)).astype(np.float32)


def test_the_copy_asks_for_thresholds_and_answers_alike_at_every_point(demo, site, images):
    session = onnxruntime.InferenceSession(site / "model.onnx", providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == ["x", "thresholds"]
    assert not session.get_overridable_initializers()
    runner = load_runner(demo.folder)
    for point in runner.operating_points.available:
        runner.set_operating_point(point.name)
        found = session.run(None, {"x": images, "thresholds": point.configuration.as_array(runner.stages)})
        for mine, theirs in zip(found, runner(images), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_the_copy_is_for_other_runtimes(site):
    with pytest.raises(ExportError, match="is not the file that was exported: its checksum differs"):
        load_runner(site)


@pytest.mark.skipif(VARIABLE not in os.environ, reason=f"${VARIABLE} names no folder with onnxruntime-web from npm")
@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_in_node_it_answers_as_here(demo, site, images, tmp_path):
    (tmp_path / "node_modules").symlink_to(Path(os.environ[VARIABLE]).resolve() / "node_modules")
    (tmp_path / "ask.mjs").write_text(NODE)
    shutil.copy(WEB / "model.mjs", tmp_path)
    done = subprocess.run(
        ["node", "ask.mjs", site, *map(str, images.ravel().astype(int))],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    made, runner = json.loads(done.stdout), load_runner(demo.folder)
    assert set(made) == {point.name for point in runner.operating_points.available}
    for point, rows in made.items():
        runner.set_operating_point(point)
        logits, exit_index, confidence = runner(images)
        assert [row["stage"] for row in rows] == [(*runner.stages, "final")[index] for index in exit_index]
        assert [row["label"] for row in rows] == [runner.labels[label] for label in logits.argmax(1)]
        np.testing.assert_allclose([row["confidence"] for row in rows], confidence, atol=1e-3)
