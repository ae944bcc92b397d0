"""The wheel is built of what is committed, and twice alike."""

import re
import subprocess
import sys
import zipfile

import pytest
from documents import ROOT


def is_clone() -> bool:
    """Whether git is there and knows this folder; it refuses folders of other users."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True)
    except OSError:
        return False
    return (ROOT / ".git").exists() and done.returncode == 0


@pytest.mark.skipif(not is_clone(), reason="this is no clone that git reads: the wheel is built of a commit")
def test_the_wheel_is_built_twice_alike_of_what_is_committed(tmp_path):
    script = ROOT / "requirements" / "build_wheel.py"
    done = subprocess.run([sys.executable, str(script), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert re.search(rf"{re.escape(wheel.name)}\nsha256:[0-9a-f]{{64}}$", done.stdout.strip())
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-tree", "-r", "--name-only", "HEAD", "plugin"], capture_output=True, text=True
    )
    committed = {each.removeprefix("plugin/") for each in listed.stdout.splitlines()}
    names = {each for each in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in each}
    assert names == committed
