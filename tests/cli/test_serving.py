"""The command `serve` before it serves; what it answers is tested in tests/serving."""

import json
import shutil
import socket
import sys

import onnx
import pytest

from dynamic_exit.artifact import checksum


def test_a_port_in_use_is_named(ran, command):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = command("serve", ran.folder, "--port", port)
    assert (code, out) == (2, "")
    assert err == (
        f"dynamic-exit: cannot listen at 127.0.0.1:{port}: Address already in use (while attempting to bind on address "
        f"('127.0.0.1', {port})); give another --port, or 0 for any that is free\n"
    )


@pytest.mark.parametrize(
    ("module", "what", "extra", "options"),
    [
        ("uvicorn", "serving", "serving", ()),
        ("starlette.applications", "serving", "serving", ()),
        ("prometheus_client", "serving", "serving", ()),
        ("ray", "--ray", "ray", ("--ray",)),
    ],
    ids=["uvicorn", "starlette", "prometheus", "ray"],
)
def test_without_its_extra_it_says_which(ran, command, monkeypatch, module, what, extra, options):
    for name in [*sys.modules]:
        if name.startswith("dynamic_exit.serving"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    code, _, err = command("serve", ran.folder, "--port", 0, *options)
    assert code == 2
    assert err == f"dynamic-exit: {what} needs {module}, which is not installed; install the extra `{extra}`\n"


def test_what_the_runtime_refuses_is_told_in_its_words(ran, command, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(ran.folder, folder)
    model = onnx.load(folder / "model.onnx")
    model.graph.node[0].op_type = "Unheard"
    onnx.save(model, folder / "model.onnx")
    config = json.loads((folder / "config.json").read_text())
    config["checksums"]["model.onnx"] = checksum(folder / "model.onnx")
    (folder / "config.json").write_text(json.dumps(config))
    code, _, err = command("serve", folder, "--port", 0)
    assert code == 2 and err.count("\n") == 1
    assert err.startswith("dynamic-exit: onnxruntime refuses the model: ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--operating-point", "frugl"), "there is no operating point 'frugl'; "),
        (("--name", "a/b"), "'a/b' cannot name a model in an address; give another --name"),
        (("--host", "999.1.1.1"), "cannot listen at 999.1.1.1:0: "),
        (("--p99", "50"), "--p99 takes a duration above 0 with its unit, such as 50ms or 0.5s; got '50'"),
        (("--p99", "0ms"), "--p99 takes a duration above 0 with its unit, such as 50ms or 0.5s; got '0ms'"),
        (("--lowest-point", "frugal"), "--lowest-point limits what load may choose; give a latency goal as --p99"),
        (("--p99", "1s", "--operating-point", "frugal"), "with --p99 load chooses the operating point; leave --op"),
        (("--p99", "1s", "--lowest-point", "frugl"), "there is no operating point 'frugl' to be the lowest; known"),
        (("--replicas", "2"), "--replicas are of Ray Serve; add --ray, as without it one process answers"),
        (("--ray", "--replicas", "4-1"), "--replicas takes a number such as 2, or the fewest and the most such as 1-4"),
        (("--ray", "--replicas", "two"), "--replicas takes a number such as 2, or the fewest and the most such as 1-4"),
        (("--ray", "--monitor"), "--monitor watches the answers of one process; leave it out with --ray"),
        (("--adapt",), "--adapt is of the monitor; give --monitor too"),
        (("--monitor-state", "x"), "--monitor-state is of the monitor; give --monitor too"),
        (("--no-watch-inputs",), "--no-watch-inputs is of the monitor; give --monitor too"),
        (("--monitor", "--agreement", "0.9"), "--agreement is what re-tuned thresholds must keep; give --adapt too"),
        (("--monitor", "--adapt", "--p99", "1s"), "--p99 and --adapt would both choose what answers; leave one of"),
        (("--monitor", "--adapt", "--agreement", "98"), "the agreement must be a share between 0 and 1, such as 0.98"),
        (("--monitor", "--adapt", "--check-share", "0"), "thresholds are re-tuned on calls that are checked; give a c"),
        (("--p99", "50ms", "--max-delay", "40"), "a delay of 40 ms leaves hardly any time within a goal of 50 ms; g"),
    ],
)
def test_options_that_cannot_be_are_refused(ran, command, options, message):
    code, _, err = command("serve", ran.folder, "--port", 0, *options)
    assert code == 2 and err.startswith(f"dynamic-exit: {message}") and err.count("\n") == 1


def test_an_empty_token_is_refused(ran, command, monkeypatch):
    monkeypatch.setenv("DYNAMIC_EXIT_TOKEN", "")
    code, _, err = command("serve", ran.folder, "--port", 0)
    assert code == 2
    assert err == "dynamic-exit: DYNAMIC_EXIT_TOKEN is set and empty; give it a token, or unset it\n"


def test_a_missing_folder_is_named(command, tmp_path):
    code, _, err = command("serve", tmp_path / "none", "--port", 0)
    assert code == 2 and "does not exist; give a folder that `dynamic-exit run` wrote" in err
