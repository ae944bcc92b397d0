"""The benchmark of a written folder: the right rows, the right sums, real times."""

import json

import numpy as np
import pytest
import tiny

from dynamic_exit.analysis.benchmark import benchmark_folder, ideal_seconds
from dynamic_exit.chain.spec import ChainSpec, StageSpec
from dynamic_exit.errors import DataError, ExportError, OperatingPointError
from dynamic_exit.pipeline.run import run
from dynamic_exit.recipe import read_recipe

PLACES = {"a": -1, "b": -1, "e": 0, "f": 0, "g": 2}
CHAIN = ChainSpec(
    inputs=("x",),
    segments=(("x",), *(("hidden",),) * 3),
    stages=tuple(StageSpec(name=name, position=place, inputs=("x",)) for name, place in PLACES.items()),
)
SECONDS = {"a": 1, "b": 2, "segment0": 10, "segment1": 20, "segment2": 30, "segment3": 40, "e": 3, "f": 4, "g": 5}


@pytest.mark.parametrize(
    "used, rates, seconds",
    [
        (set(), {"final": 1.0}, 100),
        ({"a"}, {"a": 1.0}, 1),
        ({"a", "b"}, {"a": 0.5, "b": 0.25, "final": 0.25}, 1 + 0.5 * 2 + 0.25 * 100),
        # all pay the first saver; half the first segment and its head; a quarter all the rest and the last head
        ({"a", "f", "g"}, {"a": 0.5, "f": 0.25, "g": 0.05, "final": 0.2}, 1 + 0.5 * 14 + 0.25 * 55 + 0.2 * 40),
        ({"g"}, {"g": 1.0}, 65),
    ],
    ids=["nothing on", "all leave at once", "savers", "exits", "one exit"],
)
def test_the_ideal_is_the_sum_over_what_samples_reach(used, rates, seconds):
    assert ideal_seconds(CHAIN, used, rates, SECONDS) == pytest.approx(seconds)


@pytest.fixture(scope="module")
def folder(ran):
    return ran.folder


@pytest.fixture(scope="module")
def found(folder):
    inputs, labels = tiny.samples("test")
    return benchmark_folder(folder, inputs, labels, batch_sizes=(1, 8), time_limit=2.0)


def test_int8_rows_answer_as_the_run_measured(folder, found):
    metrics = json.loads((folder / "metrics.json").read_text())
    measured = {row["name"]: row for row in metrics["rows"]}
    rows = {(row["name"], row["numerics"]): row for row in found["rows"]}
    assert rows["backbone", "int8"]["accuracy"] == pytest.approx(measured["backbone, int8"]["accuracy"])
    for name in ("accuracy-drop-1%", "accuracy-drop-10%", "frugal"):
        assert rows[name, "int8"]["accuracy"] == pytest.approx(measured[name]["accuracy"])
        assert rows[name, "int8"]["exit_rates"] == pytest.approx(measured[name]["exit_rates"])
        assert (name, "float") in rows


def test_every_row_has_a_time_at_every_batch_size_and_dynamic_ones_an_ideal(found):
    base = found["rows"][0]
    assert (base["name"], base["numerics"]) == ("backbone", "float")
    for row in found["rows"]:
        assert set(row["seconds_per_sample"]) == {"1", "8"}
        for size, time in row["seconds_per_sample"].items():
            assert 0 < time["low"] <= time["median"] <= time["high"]
            ratio = base["seconds_per_sample"][size]["median"] / time["median"]
            assert row["speed_up"][size] == pytest.approx(ratio)
        assert set(row["ideal_seconds_per_sample"]) == (set() if row["operating_point"] is None else {"1", "8"})


def test_a_folder_of_segments_is_timed_in_float_and_int8_too(folder, tmp_path):
    segments = run(read_recipe(tiny.build(tmp_path), {"export.layout": "segments"})).folder
    inputs, labels = tiny.samples("test")
    rows, as_file = (benchmark_folder(each, inputs, labels, batch_sizes=(8,), time_limit=1.0)["rows"]
                     for each in (segments, folder))  # fmt: skip
    assert [(row["name"], row["numerics"]) for row in rows] == [(row["name"], row["numerics"]) for row in as_file]
    for row, other in zip(rows, as_file, strict=True):
        assert row["accuracy"] == pytest.approx(other["accuracy"], abs=0.01)
        assert row["seconds_per_sample"]["8"]["median"] > 0
        assert bool(row["ideal_seconds_per_sample"]) == (row["operating_point"] is not None)


def test_what_is_quantized_in_another_way_has_float_rows_where_the_run_was_made(tmp_path, monkeypatch):
    recipe = read_recipe(tiny.build(tmp_path), {"quantization": {"pt2e_dynamic_quant": {}}})
    made = run(recipe).folder
    measured = {row["name"]: row["accuracy"] for row in json.loads((made / "metrics.json").read_text())["rows"]}
    found = benchmark_folder(made, *tiny.samples("test"), batch_sizes=(8,), time_limit=0.0)
    assert [row["numerics"] for row in found["rows"]] == ["float", "int8"] * 4 and found["notes"] == []
    assert found["rows"][0]["accuracy"] == pytest.approx(measured["backbone, float"])
    monkeypatch.setenv("DYNAMIC_EXIT_CACHE", str(tmp_path / "elsewhere"))
    found = benchmark_folder(made, *tiny.samples("test"), batch_sizes=(8,), time_limit=0.0)
    assert {row["numerics"] for row in found["rows"]} == {"int8"}
    assert "cannot be taken out of its files" in found["notes"][0]
    for row in found["rows"][1:]:
        assert row["accuracy"] == pytest.approx(measured[row["name"]])


def test_bad_input_is_refused(folder, tmp_path):
    inputs, labels = tiny.samples("test")
    with pytest.raises(DataError, match="takes the inputs input; the data hold y"):
        benchmark_folder(folder, {"y": inputs}, labels)
    with pytest.raises(DataError, match="within 1 and the 4 samples"):
        benchmark_folder(folder, {"input": inputs[:4]}, labels[:4])
    with pytest.raises(OperatingPointError, match="frugal"):
        benchmark_folder(folder, {"input": inputs}, labels, operating_points=["frugaal"])
    with pytest.raises(ExportError, match="has no model.onnx"):
        benchmark_folder(tmp_path, {"x": np.zeros((1, 1))}, labels[:1])
