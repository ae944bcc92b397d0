import errno
import os
import stat
import threading

import pytest

from dynamic_exit.core.atomic_write import atomic_write, check_writable


def test_the_file_is_there_only_once_all_is_written(tmp_path):
    path = tmp_path / "figures.json"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["figures.json"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_what_fails_halfway_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    path = tmp_path / "figures.json"
    path.write_bytes(b"old")
    with pytest.raises(failure), atomic_write(path) as file:
        file.write(b"half")
        raise failure
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["figures.json"]


def test_a_missing_folder_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "missing" / "figures.json"):
        pass


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_followed_also_to_a_file_that_is_not_there_yet(tmp_path, there):
    (tmp_path / "elsewhere").mkdir()
    real, link = tmp_path / "elsewhere" / "real.json", tmp_path / "link.json"
    if there:
        real.write_bytes(b"old")
    link.symlink_to("elsewhere/real.json")
    check_writable(link)
    with atomic_write(link) as file:
        file.write(b"new")
    assert link.is_symlink() and real.read_bytes() == b"new"
    assert [entry.name for entry in real.parent.iterdir()] == ["real.json"]


def test_a_device_is_written_to_and_stays_one(tmp_path):
    link = tmp_path / "null.json"
    link.symlink_to("/dev/null")
    for path in (link, "/dev/null"):
        check_writable(path)
        with atomic_write(path) as file:
            file.write(b"new")
    assert link.is_symlink() and stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(OSError, match="No space left"), atomic_write("/dev/full") as file:
        file.write(b"new")


def test_a_pipe_is_written_to(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_writable(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with atomic_write(pipe) as file:
        file.write(b"new")
    reader.join()
    assert read == [b"new"] and stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_file_that_is_a_mount_point_is_written_to(tmp_path, monkeypatch):
    def busy(source, target):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    path = tmp_path / "figures.json"
    path.write_bytes(b"old and longer")
    monkeypatch.setattr("os.replace", busy)
    with atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new" and len(list(tmp_path.iterdir())) == 1


def test_what_cannot_be_written_is_known_beforehand(tmp_path):
    check_writable(tmp_path / "new.json")
    assert not list(tmp_path.iterdir())
    for place, error in ((tmp_path, IsADirectoryError), (tmp_path / "missing" / "a.json", FileNotFoundError)):
        with pytest.raises(error):
            check_writable(place)
        with pytest.raises(error), atomic_write(place):
            pass


def test_an_interrupt_once_the_file_is_there_is_an_interrupt(tmp_path, monkeypatch):
    def replace(source, path):
        os.replace(source, path)
        raise KeyboardInterrupt

    monkeypatch.setattr("dynamic_exit.core.atomic_write._replace", replace)
    with pytest.raises(KeyboardInterrupt), atomic_write(tmp_path / "file") as file:
        file.write(b"whole")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"whole"]
