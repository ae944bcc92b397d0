"""The example of a release: what DVC and the workflow run, run here in the order that they state."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from documents import ROOT

from dynamic_exit.cli.main import main

#: What the workflow does that a test cannot.
NOT_RUN = ("pip install",)


def commands_of_dvc(folder: Path) -> list[str]:
    """Return the commands of the stages, each of which must come after those that make what it depends on."""
    stages, made = yaml.safe_load((folder / "dvc.yaml").read_text())["stages"], set()
    outputs = {name: {*stage.get("outs", ()), *(next(iter(each)) for each in stage.get("metrics", ()))}
               for name, stage in stages.items()}  # fmt: skip
    for name, stage in stages.items():
        for needed in stage["deps"]:
            assert needed in made or (folder / needed).exists(), f"{name}: {needed}"
        made |= outputs[name]
    return [stage["cmd"] for stage in stages.values()]


def commands_of_workflow(folder: Path) -> list[str]:
    jobs = yaml.safe_load((folder / "workflow.yml").read_text())["jobs"]
    (job,) = jobs.values()
    assert job["defaults"]["run"]["working-directory"] == folder.relative_to(folder.parents[2]).as_posix()
    return [step["run"] for step in job["steps"] if "run" in step and not step["run"].startswith(NOT_RUN)]


def act(command: str) -> int:
    """Run one command in this folder, this package's in this process; return its exit code."""
    program, *arguments = shlex.split(command)
    if program == "python":
        return subprocess.run([sys.executable, *arguments], capture_output=True).returncode
    assert program == "dynamic-exit"
    try:
        main(arguments)
    except SystemExit as ended:
        return ended.code or 0
    return 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of the example, with all that it names, in which the stages of DVC have run."""
    place = tmp_path_factory.mktemp("release") / "recipes"
    for name in ("digits", "examples/release"):
        shutil.copytree(ROOT / "recipes" / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place / "examples/release")
        assert [act(command) for command in commands_of_dvc(Path.cwd())] == [0, 0]
        yield Path.cwd()


def test_dvc_finds_all_that_it_keeps(folder):
    stage = yaml.safe_load((folder / "dvc.yaml").read_text())["stages"]["compress"]
    assert all((folder / name).is_file() for name in stage["outs"])
    (points,) = json.loads((folder / "model/operating_points.json").read_text())["points"]
    assert points["guarantee"]["max_accuracy_drop"] <= 0.05


def test_the_workflow_runs_the_same_and_changes_nothing(folder, monkeypatch):
    monkeypatch.chdir(folder)
    validate, *others = commands_of_workflow(folder)
    assert validate.startswith("dynamic-exit validate") and act(validate) == 0
    (compress, check) = others
    assert compress in commands_of_dvc(folder)[0] and check == commands_of_dvc(folder)[1]


def test_a_guarantee_that_cannot_be_given_stops_the_release(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    compress = commands_of_dvc(folder)[0].replace("--output model", "--output strict")
    assert act(f"{compress} --set dynamic_exit.tuning.max_accuracy_drop=0.0001") == 3
    assert "guarantee" in capsys.readouterr().err
    assert (folder / "strict/metrics.json").is_file(), "for those who look into it"


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"accuracy": 0.9999}, 0, "no figure of 1 operating points is worse"),
        ({"accuracy": 0.9999, "accuracy_standard_error": 0.0}, 0, "no figure"),
        ({"accuracy": 1.0, "accuracy_standard_error": 0.0, "cost_ratio": 0.01}, 3, "in the last release"),
        ({"cost_ratio": 0.01}, 3, "cost 0.0"),
    ],
)
def test_a_worse_figure_than_the_last_release_has_stops_this_one(folder, tmp_path, change, code, said):
    last = json.loads((folder / "last_release.json").read_text())
    name, figures = next(iter(last.items()))
    (tmp_path / "last.json").write_text(json.dumps({name: {**figures, **change}}))
    command = [sys.executable, "check_release.py", "model/metrics.json", tmp_path / "last.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done


def test_a_point_that_is_gone_is_told_and_figures_can_be_kept(folder, tmp_path):
    last = tmp_path / "last.json"
    last.write_text('{"accuracy-drop-9%": {"accuracy": 0, "accuracy_standard_error": 0, "cost_ratio": 1}}')
    command = [sys.executable, "check_release.py", "model/metrics.json", last]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (3, "accuracy-drop-9%: the operating point is gone\n")
    assert subprocess.run([*command, "--keep"], cwd=folder).returncode == 0
    assert subprocess.run(command, cwd=folder, capture_output=True).returncode == 0
    assert json.loads(last.read_text()).keys() == {"accuracy-drop-5%"}
