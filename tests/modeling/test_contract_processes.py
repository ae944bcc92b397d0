"""Loaded models in other processes: spawned, forked, by joblib and by datasets, each in a program of its own."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tiny

PROGRAM = """
import multiprocessing, os, signal, sys
import numpy as np
import torch

torch.set_num_threads(2)
from dynamic_exit import DynamicExitModelForImageClassification as Model, load_runner

kind, folder, inputs = sys.argv[1:]
inputs = np.load(inputs)
LOADED = None

def load():
    if kind.startswith("runner"):
        return load_runner(folder, "frugal")
    return Model.from_pretrained(folder, operating_point="frugal")

def answer(rows):
    return LOADED(inputs[rows]).logits

def answer_with(model, rows):
    return model(inputs[rows]).logits, model.operating_point.name
"""
MAIN = """
if __name__ == "__main__":
    signal.alarm(200)
    LOADED = load()
    # enough of them that torch and onnxruntime start their threads
    many = np.repeat(inputs, 200, axis=0)
    LOADED(many), torch.ones(1000, 1000).softmax(1)
    rows = [slice(0, 70), slice(70, 150)]
    expected = [LOADED(inputs[each]).logits for each in rows]
"""
SPAWN = """
    import functools
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.map(functools.partial(answer_with, LOADED), rows)
    assert all(np.allclose(one, other[0], atol=1e-5) for one, other in zip(expected, found))
    assert [point for _, point in found] == ["frugal", "frugal"]
    print("done")
"""
FORK = """
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = pool.map(answer, rows)
    assert all(np.allclose(one, other, atol=1e-5) for one, other in zip(expected, found))
    child = os.fork()
    if child == 0:
        signal.alarm(100)
        assert len(LOADED(many).logits) == len(many) and LOADED.operating_point.name == "frugal"
        if os.fork() == 0:  # a fork of a fork
            LOADED(inputs)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.wait()[1])
        del LOADED
        # as multiprocessing ends its processes; onnxruntime's own destructors wait for threads of the parent
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert np.array_equal(LOADED(inputs[rows[0]]).logits, expected[0]), "the parent goes on"
    print("done")
"""
COMPILED = """
    child = os.fork()
    if child == 0:
        try:
            Model.from_pretrained(folder, compile=True)
        except Exception as error:
            print(type(error).__name__, error)
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
"""
JOBLIB = """
    import joblib
    for backend in ("loky", "multiprocessing"):
        found = joblib.Parallel(2, backend=backend)(joblib.delayed(answer_with)(LOADED, each) for each in rows)
        assert all(np.allclose(one, other[0], atol=1e-5) for one, other in zip(expected, found))
    print("done")
"""
DATASETS = """
    import datasets
    model = LOADED
    numbers = datasets.Dataset.from_dict({"row": list(range(150))})
    found = numbers.map(lambda each: {"label": model(inputs[each["row"]]).logits.argmax(1)}, batched=True, num_proc=2)
    assert np.array_equal(found["label"], np.concatenate(expected).argmax(1))
    print("done")
"""


@pytest.fixture
def play(request, tmp_path):
    """Run a program about a kind of folder; return what it printed."""

    def run(kind, body):
        fixture = {"single": "ran", "segments": "ran_segments", "torch": "ran_torch", "runner": "ran"}
        folder = request.getfixturevalue(fixture[kind]).folder
        np.save(tmp_path / "inputs.npy", tiny.samples("test")[0])
        (tmp_path / "program.py").write_text(PROGRAM + MAIN + body)
        with open(tmp_path / "said", "w+") as said:  # a pipe would wait for processes that hang
            done = subprocess.run(
                [sys.executable, tmp_path / "program.py", kind, folder, tmp_path / "inputs.npy"],
                stdout=said, stderr=subprocess.STDOUT, check=False, env={**os.environ, "OMP_NUM_THREADS": "2"},
            )  # fmt: skip
            said.seek(0)
            lines = said.read().splitlines()
        assert done.returncode == 0, "\n".join(lines[-30:])
        return lines[-1]

    return run


@pytest.mark.parametrize("kind", ["single", "segments", "torch", "runner"])
def test_forks_answer(play, kind):
    assert play(kind, FORK) == "done"


def test_spawned_processes_answer(play):
    assert play("single", SPAWN) == "done"


def test_compiled_stages_are_refused_in_a_fork(play):
    assert play("torch", COMPILED) == (
        "ExportError compiled stages do not run in a forked process; load the model with compile=False, or start the "
        "process with multiprocessing's method spawn"
    )


@pytest.mark.parametrize(("package", "body"), [("joblib", JOBLIB), ("datasets", DATASETS)])
def test_other_packages_send_models_to_processes(play, package, body):
    pytest.importorskip(package, reason=f"needs {package}, of the extra dev")
    assert play("single", body) == "done"
