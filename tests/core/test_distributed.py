"""Several real processes: rows are shared out, and what one of them finds, makes or fails at, all know."""

import json
import os
import subprocess
import sys

import numpy as np
import processes
import pytest

from dynamic_exit.core import distributed
from dynamic_exit.core.launcher import is_rank_zero

PROCESSES = 3


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What each of three processes saw of `processes.py`."""
    folder = tmp_path_factory.mktemp("parallel")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={PROCESSES}",
         processes.__file__, str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    return [{**each, "threads": json.loads((folder / f"threads{each['rank']}.json").read_text())} for each in seen]


@pytest.fixture(scope="module")
def alone():
    """What one process trains."""
    return {key: processes.train(*key) for key in (("none", 8), ("reach", 2))}


def test_one_process_does_what_it_is_told(tmp_path):
    with distributed.processes():
        assert (distributed.world_size(), distributed.rank(), distributed.is_main_process()) == (1, 0, True)
        assert is_rank_zero()
        assert distributed.shard(7, 4) == range(7)
        assert distributed.run_on_main(lambda: {1: 2}) == {1: 2}  # not even turned into JSON
        assert distributed.run_on_all(lambda: 5) == 5
        array = np.arange(3)
        assert distributed.all_gather_rows(lambda: [array])[0] is array


def test_shards_are_whole_blocks_in_order(seen):
    assert [each["rank"] for each in seen] == list(range(PROCESSES))
    for index, samples in enumerate((0, 3, 8, 20, 100)):
        parts = [each["shards"][index] for each in seen]
        assert sum(parts, []) == list(range(samples))
        assert all(part[0] % 4 == 0 for part in parts if part)
        assert bool(parts[0]) == bool(samples)
        assert max(map(len, parts)) - min(map(len, parts)) <= 8  # a block, and what the last one lacks


def test_arrays_come_together_in_order_whoever_has_none(seen):
    for each in seen:
        assert each["gathered"] == [[10 * row for row in range(20)], [[row] * 2 for row in range(20)]]
        assert each["nobody"] == []


def test_all_processes_get_what_the_main_one_made_and_it_made_it_alone(seen):
    for each in seen:
        assert each["led"] == {"by": 0, "alone": 1}
        assert each["memo"] == 7
        assert each["files"] == {"a": "of 0", "empty": ""}
        assert each["found"] == [True, False, True]
    assert [each["written"] for each in seen] == [1, 0, 0]


def test_tensors_are_added_up_or_shared(seen):
    for each in seen:
        assert each["added"] == [[6.0, 6.0], [6.0, 6.0]]
        assert each["shared"] == [[1, 1, 1], [0.5]]


def test_no_thread_of_a_group_outlives_it(seen):
    """One that still runs while the interpreter ends may abort the process."""
    for each in seen:
        assert not [name for name in each["threads"] if "gloo" in name]


def test_what_fails_in_one_process_fails_in_all(seen):
    for each in seen:
        assert each["refused"] == ["DataError", "a bad sample"]
    assert seen[0]["broken"] == ["ValueError", ""]
    assert seen[1]["broken"] == seen[2]["broken"] == ["RuntimeError", "process 0 failed: ValueError"]


@pytest.mark.parametrize(("index", "key"), [(0, ("none", 8)), (1, ("reach", 2))])
def test_training_on_three_processes_is_that_on_one(seen, alone, index, key):
    """Also with batches of which most processes have nothing, and weights that look at the whole batch."""
    whole = alone[key]
    for each in seen:
        np.testing.assert_allclose(each["trained"][index]["numbers"], whole["numbers"], atol=1e-5)
        assert each["trained"][index]["numbers"] == seen[0]["trained"][index]["numbers"]
        assert each["trained"][index]["best"] == whole["best"]
    # each asked for the features of its own samples alone
    asked = [each["trained"][index]["asked"] for each in seen]
    assert sum(asked, []) == list(range(processes.SAMPLES)) == whole["asked"]
    assert [each[0] for each in asked] == [0, 24, 48]


def test_training_goes_on_in_all_processes(seen):
    for each in seen:
        assert each["resumed"]["numbers"] == each["trained"][0]["numbers"]
        assert "cannot be read; remove it, or run without resume" in each["unread"]
