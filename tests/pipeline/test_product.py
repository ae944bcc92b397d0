"""Recipes whose stages answer by a weighted product: points hold what it learned, and file and figures agree."""

import json

import numpy as np
import pytest
import tiny

from dynamic_exit import DynamicExitModelForImageClassification as Model
from dynamic_exit import load_runner
from dynamic_exit.errors import OperatingPointError
from dynamic_exit.pipeline.run import run
from dynamic_exit.recipe import read_recipe


@pytest.fixture(scope="module", params=["margin", "learned"])
def confidence(request):
    return request.param


@pytest.fixture(scope="module")
def folder(tmp_path_factory, confidence):
    changes = {"quantization": None, "dynamic_exit__tiny_saver__fuse": None}
    tuning = {"dynamic_exit__tuning__fuse": "product", "dynamic_exit__tuning__confidence": confidence}
    path = tiny.build(tmp_path_factory.mktemp("product"), **tuning, **changes)
    inputs, labels = tiny.draw(400, seed=9)  # a learned confidence asks for 200
    np.savez(path.parent / "data" / "calibration.npz", inputs=inputs, labels=labels)
    return run(read_recipe(path)).folder


def test_points_hold_rule_confidence_powers_and_gates_of_their_stages(folder, confidence):
    content = json.loads((folder / "operating_points.json").read_text())
    assert content["_version"] == 2
    used = [point for point in content["points"] if point["stages"]]
    assert used
    for point in used:
        assert (point["fuse"], point["confidence"]) == ("product", confidence)
        assert set(point["gates"]) == (set(point["powers"]) if confidence == "learned" else set())
        assert set(point["powers"]) == {stage["stage"] for stage in point["stages"]}
        assert all(0.05 <= power <= 4 for power in point["powers"].values())
    chain = json.loads((folder / "config.json").read_text())["chain"]
    assert (chain["evidence"], chain["confidence"]) == ("product", confidence)


def test_the_file_reaches_the_reported_figures(folder):
    images, labels = tiny.samples("test")
    model = Model.from_pretrained(folder)
    runner = load_runner(folder)
    for point in model.operating_points.points:
        answer = model.set_operating_point(point.name) and model(images)
        assert (answer.logits.argmax(1) == labels).mean() == pytest.approx(point.accuracy)
        left = np.bincount(answer.exit_index, minlength=len(model.stages) + 1) / len(labels)
        rates = {name: rate for name, rate in zip((*model.stages, "final"), left, strict=True) if rate}
        assert rates == pytest.approx({name: rate for name, rate in point.exit_rates.items() if rate})
        runner.set_operating_point(point.name)
        assert np.array_equal(runner(images).exit_index, answer.exit_index)


def test_points_of_other_powers_are_refused(folder, tmp_path):
    (tmp_path / "copy").mkdir()
    for path in folder.iterdir():
        if path.is_file():
            (tmp_path / "copy" / path.name).write_bytes(path.read_bytes())
    content = json.loads((folder / "operating_points.json").read_text())
    name = next(iter(content["points"][0]["powers"]))
    for point in content["points"]:
        point["powers"] = {**point["powers"], **({name: 1.25} if name in point["powers"] else {})}
    (tmp_path / "copy" / "operating_points.json").write_text(json.dumps(content))
    with pytest.raises(OperatingPointError, match="with other powers or gates; tune it anew$"):
        Model.from_pretrained(tmp_path / "copy")
