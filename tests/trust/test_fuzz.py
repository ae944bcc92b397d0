"""A few cases of every kind of input from elsewhere; `integration_tests/benchmarks/fuzz.py` tries many."""

import json

import numpy as np
import pytest
from fuzzing import Cases
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from dynamic_exit import load_runner
from dynamic_exit.artifact.manifest import read_manifest
from dynamic_exit.errors import DynamicExitError, ExportError, OperatingPointError, RecordsError
from dynamic_exit.records import Records

CASES = {
    "recipes": 4, "records": 20, "points": 20, "manifests": 20, "folders": 6, "onnx": 10, "inputs": 20, "data": 20,
    "requests": 200, "loopback": 5,
}  # fmt: skip


@pytest.fixture(scope="module")
def cases(ran, tmp_path_factory):
    made = Cases(ran.folder, tmp_path_factory.mktemp("fuzz"))
    yield made
    made.close()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", CASES)
def test_nothing_but_errors_of_this_package(cases, kind):
    assert set(cases.kinds) == {*CASES, "pictures"}, "for pictures the server imports transformers"

    @seed(7)
    @settings(
        max_examples=CASES[kind], deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=[*HealthCheck],
    )  # fmt: skip
    @given(st.data())
    def each(data):
        try:
            cases.kinds[kind](data.draw)
        except DynamicExitError as error:
            assert str(error)

    each()


# what the campaign found, each mended


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"chain": {"stages": [0.5]}}, "chain.stages"),
        ({"chain": {"stages": [[]]}}, "chain.stages"),
        ({"inputs": ["x"]}, "inputs"),
        ({"inputs": {"x": 1}}, "inputs"),
        ({"target": []}, "target"),
        ({"layout": {}}, "layout"),
    ],
)
def test_a_configuration_of_other_kinds_of_values_is_refused_by_their_place(ran, tmp_path, change, place):
    config = {**json.loads((ran.folder / "config.json").read_text()), **change}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ExportError, match=f"^config.json breaks the format at `{place}`: it must be a "):
        read_manifest(tmp_path)


def test_a_chain_with_none_for_stages_is_refused(ran, tmp_path):
    config = json.loads((ran.folder / "config.json").read_text())
    config["chain"]["stages"] = None
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ExportError, match="^config.json breaks the format at `chain.stages`: "):
        read_manifest(tmp_path)


def test_a_model_of_other_inputs_is_refused(ran, tmp_path):
    for name in ("operating_points.json", "model.onnx"):
        (tmp_path / name).write_bytes((ran.folder / name).read_bytes())
    config = json.loads((ran.folder / "config.json").read_text())
    config["inputs"][0]["name"] = "../x"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ExportError, match=r"^config.json names the inputs ../x, the model takes input; export it anew$"
    ):
        load_runner(tmp_path)


@pytest.mark.parametrize("thresholds", [3, ["x"], [None], [10**400], object()])
def test_thresholds_that_are_no_numbers_are_refused(cases, thresholds):
    inputs = np.zeros((1, 1, 6, 6), np.float32)
    with pytest.raises(OperatingPointError, match="^thresholds must be a list of numbers; got "):
        cases.runner(inputs, thresholds=thresholds)


def test_groups_of_no_sample_are_refused(ran, tmp_path):
    arrays = dict(np.load(ran.folder / "records.npz"))
    np.savez(tmp_path / "records.npz", **{**arrays, "groups": np.zeros(0, np.int64)})
    with pytest.raises(RecordsError, match="'groups' must give each of 160 samples a group from 0; got 0"):
        Records.read(tmp_path / "records.npz")
