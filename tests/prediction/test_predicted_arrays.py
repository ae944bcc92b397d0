"""Arrays without labels, answered into parquet: as the runner answers them, in shards that outlive interruptions."""

import os
import re
import resource
import shutil
import signal
import sys

import fork_server
import numpy as np
import pytest
import tiny
from pyarrow import parquet

from dynamic_exit import load_runner
from dynamic_exit.errors import ArgumentError, DataError, DynamicExitError, OutputError
from dynamic_exit.prediction import PredictionOptions, predict

COLUMNS = ["key", "prediction", "label_index", "confidence", "stage", "error"]
#: Kills itself as soon as the log says that the second shard is written.
KILLED = """
import logging, os, signal, sys
from dynamic_exit.cli.main import main

class Killer(logging.Handler):
    def emit(self, record):
        if record.getMessage().startswith("shard 2:"):
            os.kill(os.getpid(), signal.SIGKILL)

log = logging.getLogger("dynamic_exit.prediction")
log.setLevel(logging.INFO)
log.addHandler(Killer())
main(sys.argv[1:])
"""


@pytest.fixture
def inputs():
    return tiny.samples("test")[0]


@pytest.fixture
def data(tmp_path, inputs):
    """150 rows without labels."""
    path = tmp_path / "fresh.npz"
    np.savez(path, inputs=inputs)
    return path


def read(path):
    """The columns of a file, or of a folder of shards in order."""
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    tables = [parquet.ParquetFile(file).read() for file in files]
    assert all(table.column_names == COLUMNS for table in tables)
    return {name: [each for table in tables for each in table[name].to_pylist()] for name in COLUMNS}


def assert_answers(found, folder, inputs, point=None, batch_size=64):
    """Rows are those of the runner, called with the same batches."""
    runner = load_runner(folder, point)
    parts = [runner(inputs[start : start + batch_size]) for start in range(0, len(inputs), batch_size)]
    logits, exit_index, confidence = map(np.concatenate, zip(*parts, strict=True))
    stages = (*runner.stages, "final")
    assert found["key"] == list(range(len(inputs)))
    assert found["label_index"] == logits.argmax(axis=1).tolist()
    assert found["prediction"] == [runner.labels[index] for index in logits.argmax(axis=1)]
    assert found["confidence"] == confidence.tolist()
    assert found["stage"] == [stages[index] for index in exit_index]
    assert found["error"] == [None] * len(inputs)
    return len({*found["stage"]})


def test_a_file_has_the_runners_answers(ran, data, inputs, tmp_path, command):
    output = tmp_path / "new" / "out.parquet"
    code, out, err = command("predict", ran.folder, data, "--output", output)
    assert code == 0, err
    assert out.startswith(f"wrote 150 rows to {output}, 0 of them without an answer; answered by ")
    assert assert_answers(read(output), ran.folder, inputs) > 1
    assert os.listdir(output.parent) == ["out.parquet"], "no part of it and no lock stays"


@pytest.mark.parametrize("point", ["backbone", "frugal"])
def test_a_folder_has_a_file_a_shard(ran, data, inputs, tmp_path, point):
    options = PredictionOptions(operating_point=point, shard_rows=40, batch_size=20)
    summary = predict(ran.folder, data, tmp_path / "out", options)
    assert (summary.rows, summary.bad, summary.resumed) == (150, 0, 0)
    found = read(tmp_path / "out")
    assert_answers(found, ran.folder, inputs, point, 20)
    assert summary.stages == {stage: found["stage"].count(stage) for stage in {*found["stage"]}}
    counts = [parquet.ParquetFile(file).metadata.num_rows for file in sorted((tmp_path / "out").glob("*.parquet"))]
    assert counts == [40, 40, 40, 30]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_are_the_same_however_an_array_is_stored(ran, tmp_path, inputs, save, order):
    path = tmp_path / "stored.npz"
    save(path, labels=np.zeros(3), series=np.asarray(inputs, np.float64, order=order))
    predict(ran.folder, path, tmp_path / "out.parquet")
    assert_answers(read(tmp_path / "out.parquet"), ran.folder, inputs)


def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(ran, data, inputs, tmp_path, command):
    call = ["predict", ran.folder, data, "--output", tmp_path / "out.parquet", "--shard-rows", 40, "--batch-size", 16]
    done = fork_server.run(KILLED, *call, imports=("dynamic_exit.cli.main", "dynamic_exit.prediction.arrays"))
    assert done.returncode == -signal.SIGKILL, done.stderr
    partial = tmp_path / "out.parquet.partial"
    shards = sorted(partial.glob("part-*"))
    assert [file.name for file in shards] == ["part-00000.parquet", "part-00001.parquet"]
    assert not (tmp_path / "out.parquet").exists()
    (partial / ".part-00002.parquet.x").write_bytes(b"half of one")
    code, out, err = command(*call)
    assert code == 0, err
    assert "2 finished shards with 80 rows are kept" in err
    whole = read(tmp_path / "out.parquet")
    predict(ran.folder, data, tmp_path / "at_once", PredictionOptions(shard_rows=40, batch_size=16))
    assert whole == read(tmp_path / "at_once")
    assert not partial.exists()


def broken(path, inputs, *rows):
    inputs = inputs.copy()
    inputs[list(rows), 0, 2, 3] = np.nan
    np.savez(path, inputs=inputs)
    return inputs


def test_rows_that_are_not_finite_have_no_answer_and_are_counted(ran, data, inputs, tmp_path):
    broken(data, inputs, 45, 100)
    output = tmp_path / "out"
    options = PredictionOptions(shard_rows=40, batch_size=8)
    with pytest.raises(DataError, match="^row 45: it holds NaN or infinity.*; --max-bad allows bad rows$"):
        predict(ran.folder, data, output, options)
    first = tmp_path / "out.partial" / "part-00000.parquet"
    before = first.stat()
    with pytest.raises(DataError, match=r"^row 100: .*; it is one of more than 1 bad rows \(--max-bad\)$"):
        predict(ran.folder, data, output, PredictionOptions(shard_rows=40, batch_size=8, max_bad=1))
    summary = predict(ran.folder, data, output, PredictionOptions(shard_rows=40, batch_size=8, max_bad=2))
    assert (summary.rows, summary.bad, summary.resumed) == (150, 2, 80)
    after = (output / "part-00000.parquet").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns), "finished shards are not repeated"
    found = read(output)
    for row in (45, 100):
        assert [found[name][row] for name in COLUMNS[1:-1]] == [None] * 4 and "NaN" in found["error"][row]
    good = [row for row in range(150) if row not in (45, 100)]
    assert all(found["error"][row] is None and found["prediction"][row] for row in good)
    assert sum(summary.stages.values()) == 148


def interrupt(folder, data, inputs, output, **options):
    """Leave one finished shard of an interrupted call."""
    broken(data, inputs, 45)
    os.utime(data, ns=(1, 1))
    with pytest.raises(DataError, match="row 45"):
        predict(folder, data, output, PredictionOptions(shard_rows=40, **options))


@pytest.mark.parametrize(
    ("change", "options", "what"),
    [
        (lambda folder, data: os.utime(data, ns=(2, 2)), {}, "other data, or they have changed since"),
        (
            lambda folder, data: (folder / "operating_points.json").write_text(
                (folder / "operating_points.json").read_text() + "\n"
            ),
            {},
            "another model, or the folder has changed since",
        ),
        (None, {"batch_size": 32}, "--batch-size 64"),
        (None, {"shard_rows": 50}, "--shard-rows 40"),
        (None, {"operating_point": "backbone"}, "the operating point '[^']+'"),
    ],
    ids=["data", "folder", "batch size", "shard rows", "point"],
)
def test_what_is_not_as_it_was_is_refused_until_all_is_begun_anew(ran, data, inputs, tmp_path, change, options, what):
    folder, output = tmp_path / "folder", tmp_path / "out"
    shutil.copytree(ran.folder, folder)
    interrupt(folder, data, inputs, output)
    if change:
        change(folder, data)
    options = {"shard_rows": 40, "max_bad": 1, **options}
    with pytest.raises(OutputError, match=f"^'.*' holds parts of an interrupted run with {what}; go on with that, or"):
        predict(folder, data, output, PredictionOptions(**options))
    summary = predict(folder, data, output, PredictionOptions(**options, overwrite=True))
    assert (summary.rows, summary.bad, summary.resumed) == (150, 1, 0)


def test_an_output_that_is_there_is_replaced_only_if_asked(ran, data, inputs, tmp_path):
    for output in (tmp_path / "out", tmp_path / "out.parquet"):
        predict(ran.folder, data, output)
        before = read(output)
        with pytest.raises(OutputError, match="is there already; choose another, or replace it by --overwrite"):
            predict(ran.folder, data, output)
        predict(ran.folder, data, output, PredictionOptions(operating_point="backbone", overwrite=True))
        assert {*before["stage"]} != {*read(output)["stage"]} == {"final"}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    (tmp_path / "folder.parquet").mkdir()
    for name, said in (("mine", "is there and no prediction wrote it"), ("folder.parquet", "is no file; give another")):
        with pytest.raises(OutputError, match=said):
            predict(ran.folder, data, tmp_path / name, PredictionOptions(overwrite=True))
    (tmp_path / "x.partial").mkdir()
    (tmp_path / "x.partial" / "thesis.txt").write_text("years")
    with pytest.raises(OutputError, match="where parts are written, is there and no prediction wrote it; move it"):
        predict(ran.folder, data, tmp_path / "x", PredictionOptions(overwrite=True))


def test_a_full_disk_is_one_sentence_and_finished_shards_stay(ran, data, inputs, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, limits[1]))
    try:
        with pytest.raises(OutputError, match="^output '.*' cannot be written: File too large; make room, or choose"):
            predict(ran.folder, data, tmp_path / "out", PredictionOptions(shard_rows=75))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(os.listdir(tmp_path / "out.partial")) == [".made_of.json"]
    assert predict(ran.folder, data, tmp_path / "out").rows == 150


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        (
            {"inputs": np.zeros((4, 1, 5, 5), np.float32)},
            "input '.*' must be of shape (batch, 1, 6, 6); got (0, 1, 5, 5)",
        ),
        ({"inputs": np.zeros((0, 1, 6, 6), np.float32)}, "the data hold no rows; there is nothing to answer"),
        ({"inputs": np.asarray(["a", "b"])}, "input '.*' must be of type float32; got <U1"),
        ({"inputs": np.asarray([{}], object)}, "data file '.*' is no .npz file of plain numbers: "),
        (
            {"left": np.zeros(2), "right": np.zeros(2)},
            "data file '.*' has the arrays left, right, and the model takes ",
        ),
        ({"labels": np.zeros(2)}, "data file '.*' has the arrays labels, and the model takes "),
        (None, "data file '.*' is no .npz file of plain numbers: File is not a zip file; write it with numpy.savez"),
    ],
    ids=["shape", "no rows", "text", "objects", "names", "labels alone", "no archive"],
)
def test_arrays_that_cannot_be_used_are_refused(ran, tmp_path, arrays, said):
    path = tmp_path / "bad.npz"
    path.write_bytes(b"not an archive at all, but long enough for one")
    if arrays is not None:
        np.savez(path, **arrays)
    with pytest.raises(DynamicExitError, match=re.escape(said).replace(r"\.\*", ".*")):
        predict(ran.folder, path, tmp_path / "out.parquet")
    np.savez(path, inputs=np.zeros((2, 1, 6, 6), np.float32))
    assert predict(ran.folder, path, tmp_path / "out.parquet").rows == 2, "what was refused stands in nobody's way"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gone.npz", "data '{d}' does not exist; check the path"),
        (
            "a.txt",
            "data '{d}' must be a folder of pictures, a text file (.csv, .tsv, .jsonl, with or without .gz) or an",
        ),
        ("a.csv", "data '{d}' is of texts, the model in '{f}' is for image-classification"),
        ("pictures", "the model in '{f}' has no image processor, as it takes no plain pictures; give its inputs as an"),
    ],
)
def test_data_of_another_kind_are_refused(ran, tmp_path, command, name, said):
    (tmp_path / "a.csv").write_text("text\na\n")
    (tmp_path / "a.txt").write_text("text\na\n")
    (tmp_path / "pictures").mkdir()
    code, _, err = command("predict", ran.folder, tmp_path / name, "--output", tmp_path / "out.parquet")
    assert code == 2
    assert err.startswith("dynamic-exit: " + said.format(d=tmp_path / name, f=ran.folder)), err


def test_numbers_that_are_too_small_are_refused():
    for options in ({"batch_size": 0}, {"shard_rows": 0}, {"max_bad": -1}):
        with pytest.raises(ArgumentError, match=f"^{next(iter(options))} must be at least "):
            PredictionOptions(**options)


def test_columns_are_names_or_numbers(ran, data, tmp_path, command):
    for given, said in (
        (["--pair", "b"], "--pair names a second column of texts; name the first as --column"),
        (["--column", "a", "--pair", "1"], "--column and --pair must both be names or both be numbers; got a, 1"),
    ):
        code, _, err = command("predict", ran.folder, data, "--output", tmp_path / "out", *given)
        assert (code, err) == (2, f"dynamic-exit: {said}\n")


def test_without_pyarrow_the_extra_is_named(ran, data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(OutputError, match="^predictions are written by pyarrow, .*; install the extra `datasets`$"):
        predict(ran.folder, data, tmp_path / "out.parquet")
