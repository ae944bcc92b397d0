from collection_hooks import pytest_collection, pytest_runtest_teardown  # noqa: F401  # first: it turns searches off

# isort: split

import dataclasses
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest
from fast_timing import fast_timing
from outside_data import DATA, VARIABLE
from workers import shared_folder

ROOT = Path(__file__).resolve().parents[1]
COMMAND = Path(sys.executable).with_name("dynamic-exit")


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory, worker_id):
    """Nothing that a test makes goes into the user's cache, or comes from there; all workers share one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DYNAMIC_EXIT_CACHE", str(shared_folder(tmp_path_factory, worker_id) / "cache"))
        yield


@pytest.fixture(scope="session", autouse=True)
def short_timing():
    """As in the other tests; only the demo, whose speed-up has a bar, is timed as users time it."""
    with fast_timing():
        yield


@pytest.fixture(scope="module")
def data_environment():
    """Recipes find the data that is not part of the project where tests look for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(DATA))
        yield


@dataclasses.dataclass(frozen=True)
class Demo:
    """One run of the quickstart as a newcomer starts it: its folder, and what it printed."""

    folder: Path
    printed: str


@pytest.fixture(scope="session")
def demo(tmp_path_factory, worker_id) -> Demo:
    """The demo, run once for all workers of a test run; nobody may write to its folder."""
    shared = shared_folder(tmp_path_factory, worker_id)
    folder, printed = shared / "demo" / "quickstart", shared / "demo" / "printed.txt"
    with filelock.FileLock(shared / "demo.lock"):
        if not printed.exists():
            began = time.perf_counter()
            done = subprocess.run(
                [COMMAND, "run", "recipes/quickstart.yaml", "--output", str(folder)],
                cwd=ROOT, capture_output=True, text=True,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            print(f"the demo took {time.perf_counter() - began:.0f} s")
            printed.write_text(done.stdout)
    return Demo(folder, printed.read_text())
