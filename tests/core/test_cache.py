import errno
import os
from pathlib import Path

import numpy as np
import pytest

from dynamic_exit.core import cache as cache_module
from dynamic_exit.core.cache import Cache, open_cache
from dynamic_exit.core.file_archive import array_from_bytes, array_to_bytes
from dynamic_exit.core.hashing import digest

KEY = digest("a key")


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def files(cache):
    return [path for path in cache.directory.rglob("*") if path.is_file()]


def test_what_was_put_in_comes_out(cache, log_lines):
    content = {"a.bin": b"\0\1\2" * 100, "b.json": b"{}"}
    assert cache.get(KEY) is None
    assert KEY not in cache
    cache.put(KEY, content)
    assert KEY in cache
    assert Cache(cache.directory).get(KEY) == content
    assert Cache(cache.directory).get(digest("another key")) is None
    cache.put(KEY, {"a.bin": b"other"})
    assert cache.get(KEY) == {"a.bin": b"other"}
    assert len(files(cache)) == 1
    cache.drop(KEY)
    cache.drop(KEY)
    assert cache.get(KEY) is None
    assert log_lines == []


def test_every_cut_and_every_changed_byte_is_noticed(cache, log_lines):
    """Whatever is done to the file, the content is right or there is none."""
    content = {"a.bin": bytes(range(64))}
    cache.put(KEY, content)
    (path,) = files(cache)
    whole = path.read_bytes()
    lost = 0
    for place in range(0, len(whole), 3):
        for broken in (whole[:place], whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :]):
            path.write_bytes(broken)
            found = cache.get(KEY)
            assert found in (None, content)
            lost += found is None
    assert lost > len(whole) / 3  # all of the cuts, and most of the changes: dates and sizes in the file matter not
    assert set(log_lines) == {f"cache entry '{path.name}' was cut short or changed; it is made anew"}
    path.write_bytes(whole)
    assert cache.get(KEY) == content


def test_an_entry_under_another_key_is_not_taken(cache, log_lines):
    cache.put(KEY, {"a": b"1"})
    (path,) = files(cache)
    other = digest("other")
    cache.put(other, {"a": b"2"})
    path.replace(cache._path(other))
    assert cache.get(other) is None
    assert len(log_lines) == 1


def test_a_write_that_fails_leaves_what_was_there(cache, monkeypatch):
    cache.put(KEY, {"a": b"before"})

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.put(KEY, {"a": b"after"})
    monkeypatch.undo()
    assert cache.get(KEY) == {"a": b"before"}
    assert len(files(cache)) == 1


def test_a_folder_that_cannot_be_written_is_reported_and_the_work_goes_on(tmp_path, log_lines):
    (tmp_path / "file").write_text("no folder")
    cache = Cache(tmp_path / "file" / "cache")
    assert cache.get(KEY) is None
    cache.put(KEY, {"a": b"1"})
    assert cache.get(KEY) == {"a": b"1"}
    (line,) = log_lines
    assert line.startswith(f"warning: cache '{tmp_path}/file/cache' cannot be written: ")
    assert (tmp_path / "file").read_text() == "no folder"


def test_a_folder_that_cannot_be_read_is_reported_and_the_work_goes_on(cache, monkeypatch, log_lines):
    cache.put(KEY, {"a": b"foreign"})
    (path,) = files(cache)
    is_file = Path.is_file

    def refused(asked):
        if asked.parent == path.parent:
            raise PermissionError(errno.EACCES, "Permission denied", str(asked))
        return is_file(asked)

    monkeypatch.setattr(Path, "is_file", refused)  # a superuser may read everything
    assert cache.get(KEY) is None
    reason = "Permission denied; what is made now will not be found again"
    assert log_lines == [f"warning: cache '{path.parents[1]}' cannot be read: {reason}"]
    cache.put(KEY, {"a": b"own"})
    assert cache.get(KEY) == {"a": b"own"}
    other = Cache(path.parents[1])
    found = other.array(KEY, (2,), lambda: [np.float32([1, 2])])
    assert found.tolist() == [1, 2] and len(files(other)) == 2, "made anew, elsewhere"


def test_without_a_home_nothing_is_kept_and_that_is_said_once(monkeypatch, log_lines):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    for name in ("DYNAMIC_EXIT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    cache_module._warn_once.cache_clear()
    for _ in range(2):
        cache = open_cache(None, True)
        cache.put(KEY, {"a": b"1"})
        assert cache.get(KEY) == {"a": b"1"}
    assert log_lines == [
        "warning: there is no home directory for the cache, set DYNAMIC_EXIT_CACHE; what is made now is not kept"
    ]
    monkeypatch.setenv("DYNAMIC_EXIT_CACHE", "/somewhere")
    assert open_cache(None, True).directory == Path("/somewhere") and len(log_lines) == 1


def test_a_value_is_made_once(cache):
    made = []

    def make():
        made.append(1)
        return [{"x": 0.1, "y": None}]

    assert cache.memo(KEY, make) == cache.memo(KEY, make) == Cache(cache.directory).memo(KEY, make)
    assert made == [1]
    assert cache.value(KEY) == [{"x": 0.1, "y": None}]
    assert cache.value(digest("nothing")) is None


BLOCKS = np.arange(12, dtype=np.float32).reshape(3, 2, 2)


def test_an_array_is_made_once_and_mapped(cache):
    made = []

    def make():
        made.append(True)
        yield from BLOCKS

    for _ in range(2):
        found = cache.array(KEY, 6, make)
        assert not found.flags.owndata and np.array_equal(found, BLOCKS.reshape(6, 2))
    assert len(made) == 1


def test_a_changed_array_is_made_anew_and_one_that_fails_leaves_nothing(cache, log_lines):
    def fail():
        yield BLOCKS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.array(KEY, 6, fail)
    assert not files(cache)
    cache.array(KEY, 6, lambda: BLOCKS)
    (path,) = (path for path in files(cache) if path.suffix == ".npy")
    whole = path.read_bytes()
    for broken in (whole[:-1], whole[:-1] + b"?", b""):
        path.write_bytes(broken)
        assert np.array_equal(cache.array(KEY, 6, lambda: BLOCKS), BLOCKS.reshape(6, 2))
    assert log_lines == [f"cache entry '{path.name}' was cut short or changed; it is made anew"] * 3


def test_an_array_is_made_where_the_folder_cannot_be_written(tmp_path, log_lines):
    (tmp_path / "cache").write_text("a file where a folder should be")
    cache = Cache(tmp_path / "cache")
    assert np.array_equal(cache.array(KEY, 6, lambda: BLOCKS), BLOCKS.reshape(6, 2))
    assert len(log_lines) == 1 and "cannot be written" in log_lines[0]


def test_digests_tell_parts_apart():
    parts = [("ab", "c"), ("a", "bc"), ("abc",), (["ab", "c"],), ("ab", ["c"]), (b"abc", ""), ()]
    assert len({digest(*each) for each in parts}) == len(parts)
    assert digest("x", b"y", ["z"]) == digest(b"x", memoryview(b"y"), (part for part in ["z"]))


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.uint8])
def test_arrays_keep_every_bit(dtype):
    array = np.random.default_rng(0).integers(0, 200, size=(7, 3)).astype(dtype) / np.asarray(3, dtype)
    array = array.astype(dtype)
    again = array_from_bytes(array_to_bytes(array))
    assert (again.dtype, again.shape, again.tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_objects_are_refused():
    with pytest.raises(ValueError, match="allow_pickle"):
        array_to_bytes(np.array([{}]))


def test_where_the_cache_lies(monkeypatch, tmp_path):
    def place(directory=None, enabled=True):
        return open_cache(directory, enabled).directory

    monkeypatch.setenv("DYNAMIC_EXIT_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "shared"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert place(str(tmp_path / "told")) == tmp_path / "told"
    assert place() == tmp_path / "own"
    monkeypatch.delenv("DYNAMIC_EXIT_CACHE")
    assert place() == tmp_path / "shared" / "dynamic_exit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert place() == tmp_path / "home" / ".cache" / "dynamic_exit"
    assert not list(tmp_path.iterdir())  # nothing is made before it is needed
    cache = open_cache(str(tmp_path / "told"), False)
    cache.put(KEY, {"a": b"1"})
    kept = cache.directory
    assert cache.get(KEY) == {"a": b"1"} and kept.is_dir()
    del cache
    assert not kept.exists() and not (tmp_path / "told").exists()


def test_an_error_while_rows_are_made_is_told_as_it_is(cache, log_lines):
    def make():
        yield np.zeros((1, 2))
        raise FileNotFoundError(errno.ENOENT, "No such file", "picture.png")

    with pytest.raises(FileNotFoundError, match="picture.png"):
        cache.array(KEY, 2, make)
    assert log_lines == []
    assert cache.array(KEY, 2, lambda: [np.ones((2, 2))]).sum() == 4
    assert cache.directory.name == "cache"  # no temporary one


def test_arrays_that_were_not_used_for_long_are_removed(cache):
    keys = [digest(name) for name in ("old", "used again", "young", "new")]
    for key in keys[:3]:
        cache.array(key, 1, lambda: [np.zeros((1, 2))])
    for path in files(cache):
        if path.stem in keys[:2]:
            os.utime(path, (0, 0))
    cache.array(keys[1], 1, lambda: pytest.fail("it is there"))
    cache.array(keys[3], 1, lambda: [np.ones((1, 2))])
    assert {path.name for path in files(cache)} == {f"{key}.{end}" for key in keys[1:] for end in ("npy", "zip")}
