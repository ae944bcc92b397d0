from collection_hooks import pytest_collection, pytest_runtest_teardown  # noqa: F401  # first: it turns searches off

# isort: split

import dataclasses
import json
import os
import sys
from pathlib import Path

import filelock
import pytest
import tiny
import torch
from fast_timing import fast_timing
from log_lines import log_lines
from workers import shared_folder

from dynamic_exit.cli.main import main
from dynamic_exit.pipeline.result import Result
from dynamic_exit.pipeline.run import run
from dynamic_exit.points.operating_point import OperatingPoints
from dynamic_exit.recipe import read_recipe
from dynamic_exit.report.metrics import Metrics

# more than one gain nothing on models this small; `integration_tests/any_processor.py` asks for two all the same
torch.set_num_threads(int(os.environ.get("DYNAMIC_EXIT_TEST_THREADS", "1")))


#: Modules that take more than four seconds: they run recipes, trainings or processes of their own.
SLOW_MODULES = set(Path(__file__).with_name("slow_modules.txt").read_text().split())


def pytest_collection_modifyitems(items):
    """Mark what `make test-fast` leaves out."""
    for item in items:
        if _is_slow(item.path):
            item.add_marker(pytest.mark.slow)


def pytest_ignore_collect(collection_path, config):
    """Leave modules unread of which no test would run."""
    left_out = config.option.markexpr == "not slow" and collection_path.suffix == ".py" and _is_slow(collection_path)
    return True if left_out else None


def _is_slow(path: Path) -> bool:
    """Whether a module is one of those, or lies beside this folder."""
    here = Path(__file__).parent
    return not path.is_relative_to(here) or path.relative_to(here).with_suffix("").as_posix() in SLOW_MODULES


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory, worker_id):
    """Nothing that a test makes goes into the user's cache, or comes from there; all workers share one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DYNAMIC_EXIT_CACHE", str(shared_folder(tmp_path_factory, worker_id) / "cache"))
        yield


@pytest.fixture(scope="session", autouse=True)
def short_timing():
    with fast_timing():
        yield


@dataclasses.dataclass(frozen=True)
class Ran:
    """A recipe that has been run: its file, what came of it, and the lines that it logged."""

    recipe: Path
    result: Result
    said: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return self.result.folder


def _once(shared: Path, **changes) -> Ran:
    """Run the tiny recipe once for all workers of a test run; nobody may write to its folder."""
    folder = shared / f"tiny{'-'.join(changes)}"
    with filelock.FileLock(f"{folder}.lock"):
        if not (folder / "done.json").exists():
            path = tiny.build(folder, **changes)
            with log_lines() as said:
                run(read_recipe(path))
            (folder / "done.json").write_text(json.dumps(said))
    said = json.loads((folder / "done.json").read_text())
    out = folder / "out"
    points = OperatingPoints.read(out / "operating_points.json")
    return Ran(
        folder / "recipe.yaml",
        Result(out, points, Metrics.read(out / "metrics.json")),
        tuple(said),
    )


@pytest.fixture(scope="session")
def ran(tmp_path_factory, worker_id) -> Ran:
    """The tiny recipe in int8 with savers and two exits."""
    return _once(shared_folder(tmp_path_factory, worker_id))


@pytest.fixture(scope="session")
def ran_float(tmp_path_factory, worker_id) -> Ran:
    """The tiny recipe in float, with fused evidence."""
    changes = {"quantization": None, "dynamic_exit__tiny_saver__fuse": "mean"}
    return _once(shared_folder(tmp_path_factory, worker_id), **changes)


@pytest.fixture(scope="session")
def ran_segments(tmp_path_factory, worker_id) -> Ran:
    """The tiny recipe in float as a folder of segments, with all that a chain can hold: fused evidence and notes."""
    changes = {
        "quantization": None,
        "export__layout": "segments",
        # trained for long enough that exits of the sequence are far better than those without
        "dynamic_exit__early_exit": {"count": 2, "training": {"epochs": 15}, "sequence": {"width": 16}},
        "dynamic_exit__tiny_saver__fuse": "mean",
    }
    return _once(shared_folder(tmp_path_factory, worker_id), **changes)


@pytest.fixture(scope="session")
def ran_torch(tmp_path_factory, worker_id) -> Ran:
    """The tiny recipe in int8 with savers and two exits, for torch."""
    return _once(shared_folder(tmp_path_factory, worker_id), export__target="torch")


@pytest.fixture(name="log_lines")
def lines_of_the_log():
    """The lines that the package logs during a test, as a terminal shows them."""
    with log_lines() as lines:
        yield lines


@pytest.fixture
def command(monkeypatch, capsys):
    """The command line in this process: arguments to exit code, stdout and stderr."""

    def call(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dynamic-exit", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as done:
            code = done.code
        said = capsys.readouterr()
        return code, said.out, said.err

    return call
