"""A whole recipe with a saver and the exit sequence network, in one file."""

import json

import numpy as np
import onnxruntime
import pytest
import tiny

from dynamic_exit.pipeline.run import run
from dynamic_exit.points.operating_point import point_thresholds
from dynamic_exit.recipe import read_recipe
from dynamic_exit.records import Records


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    exits = {"count": 2, "heads": ["linear"], "sequence": {"width": 16}, "training": {"epochs": 15}}
    changes = {"dynamic_exit__early_exit": exits, "dynamic_exit__tiny_saver__fuse": "mean", "quantization": None}
    return run(read_recipe(tiny.build(tmp_path_factory.mktemp("sequence"), **changes)))


def test_exits_of_the_network_are_in_use_behind_the_saver_and_verified(result):
    used = [{stage.stage for stage in point.stages} for point in result.points.points]
    seeing = [names for names in used if any(name.endswith(":sequence") for name in names)]
    assert seeing
    assert all("saver2" in names for names in seeing)
    for agreement in result.metrics.verification.values():
        assert (agreement.exits_apart, agreement.predictions_apart) == (0, 0)
        assert agreement.largest_difference < 1e-4


def test_figures_are_those_of_the_file(result):
    session = onnxruntime.InferenceSession(str(result.folder / "model.onnx"), providers=["CPUExecutionProvider"])
    chain = json.loads(session.get_modelmeta().custom_metadata_map["stages"])
    inputs, labels = tiny.samples("test")
    for point in result.points.points:
        logits, exits, _ = session.run(None, {"input": inputs, "thresholds": point_thresholds(point, chain)})
        assert (logits.argmax(1) == labels).mean() == pytest.approx(point.accuracy)
        rates = {name: (exits == place).mean() for place, name in enumerate([*chain, "final"])}
        assert {name: rates[name] for name in point.exit_rates} == pytest.approx(point.exit_rates)


def test_exits_of_the_network_pay_for_all_taps_that_they_read(result):
    records = Records.read(result.folder / "records.npz")
    seeing = [place for place, name in enumerate(records.stages) if name.endswith(":sequence")]
    assert [int(records.requires[place]) for place in seeing] == [0, 0]
    assert (np.delete(records.requires, seeing) == -1).all()
    classes, width, channels = tiny.CLASSES, 16, (2, 8)
    taps = np.cumsum([classes * width, *(count * width for count in channels)])[1:]
    for tokens, place, paid in zip((2, 3), seeing, taps, strict=True):
        # query, mixture, keys and values; scores and mixture of values; the two layers; the logits
        head = 2 * width**2 + tokens * 2 * width**2 + 2 * tokens * width + 4 * width**2 + width * classes
        assert records.own_cost[place] == head + paid
