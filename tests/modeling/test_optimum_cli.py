"""The subcommand of `optimum-cli`, as Optimum itself finds it."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from optimum.commands import optimum_cli

ROOT = Path(__file__).parents[2]


@pytest.fixture
def optimum(monkeypatch, capsys):
    """`optimum-cli` in this process: arguments to exit code, stdout and stderr."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["optimum-cli", *map(str, arguments)])
        capsys.readouterr()
        try:
            optimum_cli.main()
            code = 0
        except SystemExit as done:
            code = done.code
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_it_does_what_the_command_does(ran, optimum, command):
    assert optimum("dynamic-exit", "inspect", ran.folder, "--json") == command("inspect", ran.folder, "--json")
    code, out, _ = optimum("dynamic-exit", "inspect", ran.folder, "--json")
    assert (code, json.loads(out)["stages"]) == (0, ["saver2", "block1:linear", "block3:linear", "final"])


def test_refusals_and_exit_codes_are_the_commands(tmp_path, optimum):
    code, _, err = optimum("dynamic-exit", "run", tmp_path / "none.yaml")
    assert code == 2
    assert err.endswith("none.yaml' does not exist; give the path of a YAML file\n")
    code, _, err = optimum("dynamic-exit", "inspect")
    assert code == 2
    assert "Usage: optimum-cli dynamic-exit inspect" in err


def test_without_arguments_it_lists_the_commands(optimum):
    code, out, _ = optimum("dynamic-exit")
    assert code == 0
    assert all(name in out for name in ("run", "validate", "evaluate", "inspect", "tune", "passes"))
    assert "dynamic-exit" in optimum("--help")[1]


@pytest.mark.slow
def test_a_wheel_brings_it_and_hides_nothing_of_optimum(tmp_path):
    """Optimum's folders are namespaces: an `__init__.py` of ours in them would hide the real ones."""
    source = tmp_path / "source"
    shutil.copytree(ROOT / "plugin", source / "plugin", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source / name)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "-w", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    ours = "optimum/commands/register/register_dynamic_exit.py"
    assert [name for name in names if name.startswith("optimum")] == [ours]
    assert "dynamic_exit/report/templates/report.html.jinja" in names
