"""What is installed: bounds, tested versions and hashes agree."""

import re
import tomllib
from pathlib import Path

import environments
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("ci", "released", "serving", "tools")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
OWN = "neural-compressor-dynamic-exit"


def versions_of(name: str) -> dict[str, str]:
    """Return the exact versions of a file, by canonical name."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pairs = [line.split(";")[0].strip(" \\").split("==") for line in lines if re.match(r"\w", line)]
    return {canonicalize_name(name.split("[")[0]): version.strip() for name, version in pairs}


def required(extras: tuple[str, ...]) -> list[Requirement]:
    """Return what the package and its extras need directly."""
    project = PROJECT["project"]
    lists = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    found = [Requirement(each) for one in lists for each in one]
    return [each for each in found if canonicalize_name(each.name) != OWN]


def every_requirement() -> list[Requirement]:
    """Return what the package, its extras and its build need directly."""
    build = [Requirement(each) for each in PROJECT["build-system"]["requires"]]
    return build + required((*PROJECT["project"]["optional-dependencies"],))


def test_dependencies_are_bounded_above_and_below():
    for each in every_requirement():
        operators = {one.operator for one in each.specifier}
        assert operators == {">=", "<"}, f"{each} is not bounded"


def test_a_package_has_the_same_bounds_wherever_it_is_named():
    named: dict[str, set[str]] = {}
    for each in every_requirement():
        named.setdefault(canonicalize_name(each.name), set()).add(str(each.specifier))
    assert {name: bounds for name, bounds in named.items() if len(bounds) > 1} == {}


def test_tested_versions_are_within_the_bounds():
    tested = versions_of("constraints.txt")
    for each in every_requirement():
        assert each.specifier.contains(tested[canonicalize_name(each.name)]), f"{each} is not what is tested"


@pytest.mark.parametrize(("lock", "extras"), [("ci", ("dev", "docs")), ("released", ())])
def test_files_with_hashes_hold_the_tested_versions(lock, extras):
    tested, locked = versions_of("constraints.txt"), versions_of(f"requirements/{lock}.txt")
    assert {name: version for name, version in locked.items() if tested.get(name) != version} == {}
    needed = {canonicalize_name(each.name) for each in required(extras)}
    assert needed <= {*locked}, "run `make lock`"
    if lock == "ci":
        assert {*tested} == {*locked}, "run `make lock`"


def test_the_image_of_the_server_gets_the_tested_versions_and_no_more():
    tested, locked = versions_of("constraints.txt"), versions_of("requirements/serving.txt")
    assert {name: version for name, version in locked.items() if tested.get(name) != version} == {}
    needed = {canonicalize_name(each) for each in environments.requirements(environments.extra("serving"))}
    assert needed == {*locked}, "run `make lock`"


@pytest.mark.parametrize("lock", LOCKS)
def test_every_version_has_hashes_and_no_address(lock):
    text = (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
    assert "://" not in text and "index-url" not in text and "find-links" not in text
    for entry in re.split(r"\n(?=\w)", text)[1:]:
        assert re.fullmatch(r"\S+==\S+(?: ; [^\\]+)? \\\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n?)+", entry), entry


def test_tools_are_the_ones_that_are_named():
    locked = versions_of("requirements/tools.txt")
    for line in (ROOT / "requirements" / "tools.in").read_text(encoding="utf-8").splitlines():
        if re.match(r"\w", line):
            needed = Requirement(line)
            assert needed.specifier.contains(locked[needed.name])
