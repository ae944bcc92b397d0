"""The version, and the command as a module."""

import subprocess
import sys

import dynamic_exit


def test_version(command):
    assert command("--version") == (0, f"dynamic-exit {dynamic_exit.__version__}\n", "")


def test_the_package_runs_as_the_command():
    for arguments, line in (
        (["--version"], f"dynamic-exit {dynamic_exit.__version__}"),
        (["--help"], "Usage: dynamic-exit"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "dynamic_exit", *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 and line in done.stdout
