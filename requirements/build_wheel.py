"""Build the wheel twice, and keep it if both are the same, byte for byte.

    python requirements/build_wheel.py FOLDER

Each build is made of a copy of the last commit, in another folder, with other times of files and another seed of
hashes. What is not committed does not get in. Needs git and setuptools, and no network.

Writes the wheel to FOLDER, and prints its name and SHA-256 sum. Exits with 1 if the builds differ.
"""

import argparse
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
# seconds that times of files are off, and seed of hashes
_CONDITIONS = ((0, "0"), (86_461, "1"))
_UMASK = 0o022  # modes of files get into the wheel


def main() -> None:
    """Build, compare and write the wheel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    commit_time = int(_git("log", "-1", "--format=%ct"))
    archive = _git("archive", "--format=tar", "HEAD")
    with tempfile.TemporaryDirectory() as work:
        built = [
            build(archive, Path(work) / f"copy{place}", commit_time, condition)
            for place, condition in enumerate(_CONDITIONS)
        ]
        (name, content), other = built
        if built[0] != built[1]:
            sys.exit(f"two builds of '{name}' differ: {_sum(content)} and {_sum(other[1])}")
    folder.mkdir(parents=True, exist_ok=True)
    for older in folder.glob("neural_compressor_dynamic_exit-*.whl"):
        older.unlink()
    (folder / name).write_bytes(content)
    print(f"{folder / name}\n{_sum(content)}")


def build(archive: bytes, copy: Path, commit_time: int, condition: tuple[int, str]) -> tuple[str, bytes]:
    """Build the wheel of a tree; its name and content are returned.

    Args:
        archive: The tree as a tar file.
        copy: A new folder to build in.
        commit_time: Seconds since 1970 that the files in the wheel get.
        condition: Seconds that times of files are off, and seed of hashes.
    """
    off, seed = condition
    with tarfile.open(fileobj=io.BytesIO(archive)) as file:
        file.extractall(copy, filter="data")
    for path in (copy / "plugin").rglob("*"):
        os.utime(path, (commit_time + off, commit_time + off))
    output = copy / "dist"
    output.mkdir()
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(commit_time), "PYTHONHASHSEED": seed}
    command = [sys.executable, "-c", _BUILD, str(output)]
    done = subprocess.run(command, cwd=copy, env=environment, umask=_UMASK, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    wheel = next(output.glob("*.whl"))
    return wheel.name, wheel.read_bytes()


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True).stdout


def _sum(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


if __name__ == "__main__":
    main()
