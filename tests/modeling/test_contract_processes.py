"""Loaded models in other processes: spawned, forked, by joblib and by datasets, all from one program."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
import tiny

PROGRAM = """
import functools, multiprocessing, os, signal, sys
import numpy as np
import torch

torch.set_num_threads(2)
from dynamic_exit import DynamicExitModelForImageClassification as Model, load_runner

inputs = np.load(sys.argv[1])
rows = [slice(0, 70), slice(70, 150)]
LOADED = None

def load(kind, folder):
    if kind == "runner":
        return load_runner(folder, "frugal")
    return Model.from_pretrained(folder, operating_point="frugal")

def answer(rows):
    return LOADED(inputs[rows]).logits

def answer_with(model, rows):
    return model(inputs[rows]).logits, model.operating_point.name

def spawn(folder, expected):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.map(functools.partial(answer_with, LOADED), rows)
    assert all(np.allclose(one, other[0], atol=1e-5) for one, other in zip(expected, found))
    assert [point for _, point in found] == ["frugal", "frugal"]

def fork(folder, expected):
    global LOADED
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

def compiled(folder, expected):
    child = os.fork()
    if child == 0:
        try:
            Model.from_pretrained(folder, compile=True)
        except Exception as error:
            print(type(error).__name__, error, flush=True)
        os._exit(0)
    os.waitpid(child, 0)

def joblib(folder, expected):
    import joblib
    for backend in ("loky", "multiprocessing"):
        found = joblib.Parallel(2, backend=backend)(joblib.delayed(answer_with)(LOADED, each) for each in rows)
        assert all(np.allclose(one, other[0], atol=1e-5) for one, other in zip(expected, found))

def datasets(folder, expected):
    import datasets
    model = LOADED
    numbers = datasets.Dataset.from_dict({"row": list(range(150))})
    found = numbers.map(lambda each: {"label": model(inputs[each["row"]]).logits.argmax(1)}, batched=True, num_proc=2)
    assert np.array_equal(found["label"], np.concatenate(expected).argmax(1))

if __name__ == "__main__":
    # enough of them that torch and onnxruntime start their threads
    many = np.repeat(inputs, 50, axis=0)
    for task in sys.argv[2:]:
        signal.alarm(200)
        name, kind, folder = task.split(":", 2)
        LOADED = load(kind, folder)
        LOADED(many), torch.ones(1000, 1000).softmax(1)
        globals()[name](folder, [LOADED(inputs[each]).logits for each in rows])
        print("done", name, kind, flush=True)
"""
#: What one program does in turn, and with which kinds of folders; a program for each would spend its time on imports.
TASKS = [("fork", kind) for kind in ("single", "segments", "torch", "runner")]
TASKS += [("compiled", "torch"), ("spawn", "single"), ("joblib", "single"), ("datasets", "single")]
PACKAGES = ("joblib", "datasets")


@pytest.fixture(scope="module")
def lines(request, tmp_path_factory):
    """What the program has printed, line by line."""
    fixtures = {"single": "ran", "segments": "ran_segments", "torch": "ran_torch", "runner": "ran"}
    there = [task for task in TASKS if task[0] not in PACKAGES or importlib.util.find_spec(task[0])]
    tasks = [f"{name}:{kind}:{request.getfixturevalue(fixtures[kind]).folder}" for name, kind in there]
    place = tmp_path_factory.mktemp("contract_processes")
    np.save(place / "inputs.npy", tiny.samples("test")[0])
    (place / "program.py").write_text(PROGRAM)
    with open(place / "said", "w+") as said:  # a pipe would wait for processes that hang
        done = subprocess.run(
            [sys.executable, place / "program.py", place / "inputs.npy", *tasks],
            stdout=said, stderr=subprocess.STDOUT, check=False, env={**os.environ, "OMP_NUM_THREADS": "2"},
        )  # fmt: skip
        said.seek(0)
        lines = said.read().splitlines()
    assert done.returncode == 0, "\n".join(lines[-30:])
    return lines


@pytest.mark.parametrize("kind", ["single", "segments", "torch", "runner"])
def test_forks_answer(lines, kind):
    assert f"done fork {kind}" in lines


def test_spawned_processes_answer(lines):
    assert "done spawn single" in lines


def test_compiled_stages_are_refused_in_a_fork(lines):
    assert lines[lines.index("done compiled torch") - 1] == (
        "ExportError compiled stages do not run in a forked process; load the model with compile=False, or start the "
        "process with multiprocessing's method spawn"
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_other_packages_send_models_to_processes(lines, package):
    pytest.importorskip(package, reason=f"needs {package}, of the extra dev")
    assert f"done {package} single" in lines
