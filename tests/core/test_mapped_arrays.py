"""Arrays beyond a limit lie in files; what they hold is the same, and their pages do not stay."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from dynamic_exit.core import mapped_arrays
from dynamic_exit.core.batching import batches
from dynamic_exit.core.hashing import array_fingerprint
from dynamic_exit.core.mapped_arrays import (
    collect_blocks,
    open_mapped,
    row_blocks,
    take_rows,
    value_range,
    write_blocks,
)

ARRAYS = {
    "pixels": np.arange(60, dtype=np.uint8).reshape(5, 3, 2, 2),
    "hidden": np.linspace(-1, 1, 14, dtype=np.float32).reshape(7, 2),
    "labels": np.arange(5),
}


@pytest.fixture(params=[0, mapped_arrays.MAX_BYTES_IN_MEMORY], ids=["in files", "in memory"])
def limit(request, monkeypatch):
    monkeypatch.setattr(mapped_arrays, "MAX_BYTES_IN_MEMORY", request.param)
    return request.param


@pytest.fixture(params=[1, 2**20], ids=["row by row", "at once"])
def blocks(request, monkeypatch):
    monkeypatch.setattr(mapped_arrays, "_BLOCK_BYTES", request.param)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_arrays_in_files_are_those_in_memory(limit, array):
    whole = collect_blocks(row_blocks(array), len(array))
    assert np.array_equal(whole, array) and whole.dtype == array.dtype
    assert whole.flags.owndata == bool(limit)
    assert mapped_arrays.is_mapped(whole) == mapped_arrays.is_mapped(whole[1:].reshape(-1)) == (not limit)
    rows = np.array([2, 0, 2, 1])
    assert np.array_equal(take_rows(whole, rows), array[rows])
    assert value_range(whole) == (array.min(), array.max())
    assert array_fingerprint(whole) == array_fingerprint(array)
    assert all(np.array_equal(a, b) for (a,), (b,) in zip(batches([whole], 2), batches([array], 2), strict=True))


@pytest.mark.usefixtures("limit")
def test_no_rows_are_taken_as_no_rows():
    assert take_rows(ARRAYS["pixels"], np.array([], int)).shape == (0, 3, 2, 2)


def test_a_file_holds_as_many_rows_as_came(tmp_path):
    for count in (1, 3, 5):
        path = tmp_path / f"{count}.npy"
        with open(path, "wb+") as file:
            write_blocks(file, itertools.islice(row_blocks(ARRAYS["pixels"][:count]), 5), 123_456_789)
        assert np.array_equal(open_mapped(path), ARRAYS["pixels"][:count])
        assert np.array_equal(np.load(path), ARRAYS["pixels"][:count])


def test_fingerprints_tell_shapes_and_types_apart():
    array = ARRAYS["pixels"]
    others = [array.reshape(5, 12), array.view(np.int8), array[:4], array.copy() + np.uint8(1)]
    assert len({array_fingerprint(each) for each in (array, *others)}) == 5


PASSES = """
import resource, sys
import numpy as np
from dynamic_exit.core.batching import batches
from dynamic_exit.core.hashing import array_fingerprint
from dynamic_exit.core.mapped_arrays import open_mapped, take_rows, value_range
array = open_mapped(sys.argv[1])
start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for (batch,) in batches([array], 64):
    batch.sum()
value_range(array), array_fingerprint(array), take_rows(array, np.arange(len(array))[::-1])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) / 1024)
"""


@pytest.mark.slow
def test_a_pass_over_a_large_file_takes_the_memory_of_a_block(tmp_path):
    with open(tmp_path / "a.npy", "wb+") as file:
        write_blocks(file, (np.full((1000, 2**15), i, np.uint8) for i in range(10)), 10_000)
    command = [sys.executable, "-c", PASSES, tmp_path / "a.npy"]
    made = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(made.stdout) < 80, "MiB, of 313"
