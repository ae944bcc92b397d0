"""Places that cannot be used: homes, recipes, outputs of `tune`."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from instances import savers

from dynamic_exit.core import signals
from dynamic_exit.records import Records, StageTable


@pytest.mark.parametrize("arguments", [["--help"], ["passes", "--json"]], ids=" ".join)
def test_the_command_works_where_the_home_cannot_be_written(tmp_path, arguments):
    (tmp_path / "file").write_text("no home")
    environment = {**os.environ, "HOME": str(tmp_path / "file" / "home")}
    for name in ("DYNAMIC_EXIT_CACHE", "XDG_CACHE_HOME", "HABANA_LOGS", "LOG_LEVEL_INC"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-m", "dynamic_exit", *arguments],
        capture_output=True, text=True, check=False, timeout=300, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and not done.stdout.startswith("Warning")


#: Runs a command as a user whom the machine does not know, as in a container, but who may read what root may.
STRANGER = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"]
STRANGER += [f"--{which}=-all,+dac_read_search" for which in ("inh-caps", "ambient-caps", "bounding-set")]


def can_be_a_stranger() -> bool:
    """Whether this user may start processes of others, which then find the interpreter."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        return False
    return subprocess.run([*STRANGER, sys.executable, "-c", ""], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_be_a_stranger(), reason="needs root, setpriv and an interpreter that others find")
def test_a_user_without_name_and_home_tunes():
    place = Path(tempfile.mkdtemp())  # folders of pytest are for their owner alone
    place.chmod(0o777)
    savers(0, 200).write(place / "records.npz")
    (place / "records.npz").chmod(0o644)
    command = [*STRANGER, sys.executable, "-m", "dynamic_exit", "tune", "records.npz", "--output", "points.json"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=place)
    owner = (place / "points.json").stat().st_uid if done.returncode == 0 else None
    shutil.rmtree(place)
    assert owner == 12345, done.stderr


#: Options of `tune`, and what it says before it tunes anything.
TUNE = {
    "a folder": (["--output", "."], "cannot write the operating points to '.': Is a directory"),
    "a folder that is not there": (
        ["--output", "no/points.json"],
        "cannot write the operating points to 'no/points.json': No such file or directory",
    ),
    "a plot in a folder that is not there": (
        ["--output", "points.json", "--plot", "no/front.png"],
        "cannot write the plot to 'no/front.png': No such file or directory",
    ),
}


@pytest.mark.parametrize(("options", "message"), TUNE.values(), ids=TUNE)
def test_tune_notices_beforehand_what_it_cannot_write(untuned, command, options, message):
    assert command("tune", untuned, *options) == (2, "", f"dynamic-exit: {message}\n")
    assert [path.name for path in untuned.parent.iterdir()] == ["records.npz"]


def test_a_plot_of_an_unknown_format_is_refused_beforehand(untuned, command):
    code, out, err = command("tune", untuned, "--output", "points.json", "--plot", "front.xyz")
    assert (code, out) == (2, "")
    assert err.startswith("dynamic-exit: cannot write the plot to 'front.xyz': Format 'xyz' is not supported (")


@pytest.fixture
def untuned(tmp_path, monkeypatch):
    """Records that must not be tuned."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dynamic_exit.tuning.optimizer.tune", None)
    table = StageTable.of(["saver", "final"], ["saver", "final"], [-1, 0], [0.1, 0], [0, 1])
    Records.from_logits([0, 1] * 20, table, [np.eye(2)[[0, 1] * 20]] * 2).write("records.npz")
    return tmp_path / "records.npz"


def test_a_recipe_may_come_through_a_pipe_and_must_be_readable(command, tmp_path):
    def refusal(recipe):
        return command("validate", recipe)[2]

    assert refusal("/dev/null") == (
        "dynamic-exit: the recipe is empty; it needs the stanzas model, data, dynamic_exit and export\n"
    )
    assert refusal(tmp_path) == f"dynamic-exit: recipe '{tmp_path}' does not exist; give the path of a YAML file\n"
    unreadable = "/proc/self/mem"
    assert refusal(unreadable) == (
        f"dynamic-exit: recipe '{unreadable}' cannot be read: Input/output error; check its permissions\n"
    )


@pytest.mark.parametrize("module", ["dynamic_exit", "dynamic_exit.cli"])
def test_signals_during_the_imports_of_the_module_end_in_order(monkeypatch, module):
    installed = []
    monkeypatch.setattr(sys, "argv", ["-m"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", module, "passes"])
    monkeypatch.setattr(signals, "_install", installed.append)
    signals.exit_on_signal_during_import()
    assert installed == [signals._exit]
