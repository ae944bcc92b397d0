"""Shards that are answered side by side, in processes of Ray: the same as those of one process, gaps and all."""

import json
import shutil
import sys
from importlib.util import find_spec

import documents
import numpy as np
import pytest
import tiny
from commands import begun
from pyarrow import parquet

from dynamic_exit.errors import ServingError
from dynamic_exit.prediction import PredictionOptions, predict
from dynamic_exit.prediction.on_ray import ShardTask, ShardWorker
from dynamic_exit.prediction.shards import MADE_OF, ShardFiles

INPUTS = tiny.samples("test")[0]
OPTIONS = PredictionOptions(shard_rows=40, batch_size=16)


@pytest.fixture
def data(tmp_path):
    """150 rows, of which a shard has 40."""
    path = tmp_path / "fresh.npz"
    np.savez(path, inputs=INPUTS)
    return path


@pytest.fixture
def alone(ran, data, tmp_path):
    """The shards that one process writes."""
    predict(ran.folder, data, tmp_path / "alone", OPTIONS)
    return tmp_path / "alone"


def worker(ran, data, partial, stamp=None, options=OPTIONS):
    from dynamic_exit.prediction.answerer import ShardAnswerer

    partial.mkdir(exist_ok=True)
    stamp = stamp or ShardAnswerer(ran.folder, data, options).source.stamp
    return ShardWorker(ShardTask(str(ran.folder), str(data), options), ShardFiles(partial, partial), stamp)


def ask(worker, number):
    found = worker({"shard": np.array([number])})
    assert {len(each) for each in found.values()} == {1}
    return {name: value[0] for name, value in found.items()}


def test_a_worker_writes_the_shards_of_one_process_in_any_order(ran, data, alone, tmp_path):
    partial = tmp_path / "parts"
    one = worker(ran, data, partial)
    for number in (1, 3, 0, 2):
        found, table = ask(one, number), parquet.read_table(alone / f"part-{number:05d}.parquet")
        assert (found["rows"], found["bad"], found["error"]) == (table.num_rows, 0, "")
        stages = table["stage"].to_pylist()
        assert json.loads(found["stages"]) == {stage: stages.count(stage) for stage in {*stages}}
        assert parquet.read_table(partial / f"part-{number:05d}.parquet").equals(table)


def test_what_a_worker_cannot_answer_is_said_and_not_written(ran, data, tmp_path):
    inputs = INPUTS.copy()
    inputs[[41, 43]] = np.nan
    np.savez(data, inputs=inputs)
    allowed = PredictionOptions(shard_rows=40, batch_size=16, max_bad=2)
    assert ask(worker(ran, data, tmp_path / "parts", options=allowed), 1)["bad"] == 2
    found = ask(worker(ran, data, tmp_path / "none"), 1)
    assert found["error"] == "DataError"
    assert found["message"].startswith("row 41: it holds NaN or infinity")
    assert not any((tmp_path / "none").iterdir())


def test_data_that_differ_between_machines_are_refused(ran, data, tmp_path):
    found = ask(worker(ran, data, tmp_path / "parts", stamp="other"), 0)
    assert (found["error"], found["rows"]) == ("DataError", 0)
    assert "are not the same on all machines; put them where all of them see them" in found["message"]


def test_without_ray_a_sentence_names_the_extra(ran, data, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ServingError, match="--ray needs ray, which is not installed; install the extra `ray`"):
        predict(ran.folder, data, tmp_path / "out", PredictionOptions(ray=True))


# not imported: it would start threads in this process
@pytest.mark.skipif(find_spec("ray") is None, reason="the extra `ray` is not installed")
def test_the_command_fills_the_gaps_of_an_interrupted_run(ran, data, alone, tmp_path, monkeypatch):
    partial = tmp_path / "out.partial"
    shutil.copytree(alone, partial)
    for number in (0, 2):
        (partial / f"part-{number:05d}.parquet").unlink()
    (partial / ".part-00002.parquet.x").write_bytes(b"half of one")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # a token would be written into the home
    (shown,) = [block.code for block in documents.blocks("docs/how-to/predict.md") if "--ray" in block.code]
    places = {"build/quickstart": ran.folder, "pictures": data, "answers": tmp_path / "out"}
    program, *arguments = [places.get(word, word) for word in shown.split()]
    assert program == "dynamic-exit"
    command = begun(tmp_path / "log.txt", *arguments, "--batch-size", 16, "--json")
    assert command.ended() == 0, command.said
    assert '"rows": 150' in command.said
    assert '"resumed": 70' in command.said
    names = [f"part-{number:05d}.parquet" for number in range(4)]
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == [MADE_OF, *names]
    for name in names:
        assert parquet.read_table(tmp_path / "out" / name).equals(parquet.read_table(alone / name))
