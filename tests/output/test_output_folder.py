"""Where a run writes, what it may replace, and what is noticed before any work."""

import errno
import os
import shutil
import signal

import pytest

from dynamic_exit.errors import DataError, OutputError
from dynamic_exit.output.folder import OutputFolder
from dynamic_exit.output.workspace import Workspace, explain_resume


def write(directory, overwrite=False, name="config.json"):
    """Write a folder of one file as a run does; return where the file lay while it was written."""
    with Workspace(directory, overwrite) as workspace:
        workspace.begin()
        (workspace.partial / name).write_text("new")
        (workspace.partial / "stages").mkdir()
        (workspace.partial / "stages" / "final.onnx").write_text("new")
        shutil.rmtree(workspace.work)
        workspace._log.end()
        workspace.output.complete()
        return workspace.partial


def content(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


WHOLE = ["config.json", "run.log", "stages", "stages/final.onnx"]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_to_a_folder_is_followed(tmp_path, there):
    if there:
        (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert write(tmp_path / "link") == tmp_path / "real.partial"
    assert (tmp_path / "link").is_symlink() and content(tmp_path / "real") == WHOLE
    assert content(tmp_path) == ["link", "real", *(f"real/{name}" for name in WHOLE)]


def mounted(monkeypatch, tmp_path):
    monkeypatch.setattr("os.path.ismount", lambda path: str(path) == str(tmp_path / "out"))


def foreign_parent(monkeypatch, tmp_path):
    access = os.access
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path and access(path, mode))


@pytest.mark.parametrize("kind", [mounted, foreign_parent])
def test_a_folder_that_cannot_be_replaced_is_filled(tmp_path, monkeypatch, kind):
    kind(monkeypatch, tmp_path)
    out = tmp_path / "out"
    (out / "lost+found").mkdir(parents=True)
    with Workspace(out) as workspace:
        workspace.begin()
        assert content(out) == [".lock", ".partial", ".partial/run.log", ".partial/work", "lost+found"]
        with pytest.raises(OutputError, match=f"^output '{out}' is being written by process {os.getpid()} on "):
            Workspace(out).__enter__()
        said = explain_resume(out)
    assert said.startswith(f"interrupted; '{out}/.partial' keeps what is done")
    assert write(out) == out / ".partial"
    assert content(out) == sorted([*WHOLE, "lost+found"]) and content(tmp_path)[0] == "out"


def test_a_folder_that_turns_out_to_be_a_mount_point_is_filled(tmp_path, monkeypatch):
    """As one of the same disk that is mounted a second time."""
    replace = os.replace

    def busy(source, target):
        if target == tmp_path / "out":
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(source))
        replace(source, target)

    (tmp_path / "out").mkdir()
    monkeypatch.setattr("os.replace", busy)
    assert write(tmp_path / "out") == tmp_path / "out.partial"
    assert content(tmp_path / "out") == WHOLE and not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize("kind", [mounted, lambda *_: None], ids=["mounted", "a folder"])
def test_a_written_model_is_replaced_once_the_next_is_whole(ran, tmp_path, monkeypatch, kind):
    kind(monkeypatch, tmp_path)
    out = tmp_path / "out"
    shutil.copytree(ran.folder, out)
    before = content(out)
    with pytest.raises(DataError), Workspace(out, overwrite=True) as workspace:
        workspace.begin()
        raise DataError("no")
    shutil.rmtree(workspace.partial)
    assert content(out) == before
    write(out, overwrite=True)
    assert content(out) == WHOLE and (out / "config.json").read_text() == "new"
    assert content(tmp_path) == ["out", *(f"out/{name}" for name in WHOLE)]


def test_what_no_run_wrote_is_never_replaced(ran, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(ran.folder, out)
    (out / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError) as error:
        write(out, overwrite=True)
    assert str(error.value) == (
        f"output folder '{out}' holds 'thesis.tex', which no run wrote and --overwrite would remove; choose another "
        "one, or move that away"
    )
    (out / "config.json").unlink()
    with pytest.raises(OutputError) as error:
        write(out, overwrite=True)
    assert str(error.value) == (
        f"output folder '{out}' holds no model that a run wrote, and --overwrite replaces nothing else; choose another "
        "one or empty it"
    )
    assert (out / "thesis.tex").read_text() == "mine"


def loop(folder):
    (folder / "out").symlink_to("out")
    return folder / "out"


def below_a_file(folder):
    (folder / "file").write_text("")
    return folder / "file" / "out"


def socket_file(folder):
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


REFUSED = {
    "a link to itself": (loop, "output '{0}/out' cannot be made: Symlink loop from '{0}/out'; choose another place"),
    "below a file": (below_a_file, "output '{0}/file' is a file; choose a folder that does not exist yet"),
    "a pipe": (socket_file, "output '{0}/pipe' is a file; choose a folder that does not exist yet"),
    "a device": (lambda _: "/dev/null", "output '/dev/null' is a file; choose a folder that does not exist yet"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_places_that_are_no_folders_are_refused(tmp_path, make, message):
    with pytest.raises(OutputError) as error:
        write(make(tmp_path))
    assert str(error.value) == message.format(tmp_path)


def test_a_disk_without_room_for_the_weights_is_refused_before_any_work(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=2_500_000)
    monkeypatch.setattr("shutil.disk_usage", lambda place: usage if place == tmp_path else None)
    output = OutputFolder.locate(tmp_path / "new" / "out")
    output.check_space(2_500_000)
    with pytest.raises(OutputError) as error:
        output.check_space(12_345_678)
    assert str(error.value) == (
        f"output '{tmp_path}/new/out' takes at least 12.3 MB, '{tmp_path}' has 2.5 MB left; make room or choose "
        "another place"
    )


def test_a_disk_that_fills_up_ends_a_run_with_a_sentence(tmp_path):
    for number, kind in ((errno.ENOSPC, OutputError), (errno.ENOENT, FileNotFoundError)):
        with pytest.raises(kind) as error, Workspace(tmp_path / "out"):
            raise OSError(number, os.strerror(number), "/disk/file")
        if number == errno.ENOSPC:
            assert str(error.value) == (
                "'/disk/file' cannot be written: No space left on device; make room there or choose another place"
            )


def finish(directory, ready, kill_at=None):
    """Put a written folder in its place; in a process of its own where it is to be killed at its n-th move or removal.

    Returns:
        Whether it was killed.
    """
    output = OutputFolder.locate(directory, overwrite=True)
    ready(output)
    if kill_at is None:
        output.complete()
        return False
    pid = os.fork()
    if pid == 0:
        left = [kill_at]

        def killing(function):
            def call(*arguments, **options):
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
                return function(*arguments, **options)

            return call

        for name in ("replace", "mkdir", "rmdir", "unlink"):
            setattr(os, name, killing(getattr(os, name)))
        shutil.copyfile = killing(shutil.copyfile)
        output.complete()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def fill_partial(output):
    (output.partial / "stages").mkdir(parents=True)
    for name in ("config.json", "run.log", "stages/final.onnx"):
        (output.partial / name).write_text("new")


def turns_out_mounted(monkeypatch, folder):
    replace = os.replace

    def busy(source, target):
        if folder / "out" in (source, target):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(source))
        replace(source, target)

    monkeypatch.setattr("os.replace", busy)


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(
    "kind", [lambda *_: None, mounted, turns_out_mounted], ids=["renamed", "mounted", "another disk"]
)
def test_whenever_a_run_is_killed_while_it_takes_its_place_the_output_is_the_old_or_the_new_one(
    tmp_path, monkeypatch, kind, there
):
    outcomes = set()
    for moment in range(40):
        folder = tmp_path / str(moment)
        out = folder / "out"
        out.mkdir(parents=True)
        old = ["config.json", "model.onnx"] * there
        for name in old:
            (out / name).write_text("old")
        kind(monkeypatch, folder)
        killed = finish(out, fill_partial, moment)
        if (out / "config.json").is_file():  # what loads is whole: a configuration stands beside what it names
            kept = "old" if (out / "config.json").read_text() == "old" else "new"
            assert {"model.onnx"} <= {*os.listdir(out)} if kept == "old" else {*WHOLE[:3]} <= {*os.listdir(out)}
        output = OutputFolder.locate(out, overwrite=True)
        output.settle()
        assert output.is_settled
        found = [name for name in content(out) if not name.startswith(".")]
        assert found in (old, WHOLE)
        assert {(out / name).read_text() for name in found if name != "stages"} <= {"old" if found == old else "new"}
        if found == old:
            assert (output.partial / "stages" / "final.onnx").read_text() == "new", "the new one can still be had"
            output.complete()
            assert [name for name in content(out) if not name.startswith(".")] == WHOLE
        outcomes.add(found == WHOLE)
        monkeypatch.undo()
        if not killed:
            break
    assert outcomes == {True, False}


def test_what_a_killed_run_began_to_replace_is_back_before_the_next_one_looks(tmp_path, ran):
    shutil.copytree(ran.folder, tmp_path / ".out.replaced")
    with pytest.raises(OutputError, match=r"^output folder '.*out' is not empty; choose another one or empty it$"):
        Workspace(tmp_path / "out").__enter__()
    assert content(tmp_path / "out") == content(ran.folder) and not (tmp_path / ".out.replaced").exists()
