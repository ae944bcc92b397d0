"""Environments that hold what one extra of this package installs, and nothing else."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

import dynamic_exit

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def extra(name: str) -> list[str]:
    """Names of the distributions that an extra lists."""
    listed = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"][name]
    return [re.match(r"[\w.-]+", each)[0] for each in listed]


def requirements(names: list[str]) -> dict[str, importlib.metadata.Distribution]:
    """All distributions that some need, themselves included."""
    found, waiting = {}, [*names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:  # of another platform or Python
            continue
        needs = map(Requirement, found[name].requires or ())
        waiting += [need.name.lower() for need in needs if not need.marker or need.marker.evaluate({"extra": ""})]
    return found


def link(name: str, place: Path) -> Path:
    """Fill a folder with links to what an extra installs, and to this package."""
    (place / "dynamic_exit").symlink_to(Path(dynamic_exit.__file__).parent)
    for distribution in requirements(extra(name)).values():
        root = Path(distribution.locate_file(""))
        for file in distribution.files or ():
            if ".." in file.parts or "__pycache__" in file.parts:
                continue
            # namespace packages, such as google and nvidia, are shared by several distributions
            depth = 2 if len(file.parts) > 1 and not (root / file.parts[0] / "__init__.py").exists() else 1
            top = Path(*file.parts[:depth])
            if not (place / top).exists():
                (place / top).parent.mkdir(parents=True, exist_ok=True)
                (place / top).symlink_to(root / top)
    return place


def run(environment: Path, code: str, *arguments: object) -> list[str]:
    """Run code where only an environment can be imported; returns the lines that it prints."""
    start = f"import sys; sys.path = [p for p in sys.path if 'site-packages' not in p] + [{str(environment)!r}]\n"
    command = [sys.executable, "-I", "-S", "-c", start + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
