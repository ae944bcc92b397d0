"""Public lists of all rooms: what stands in them exists, and a room says what it is for."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import dynamic_exit

#: Rooms that import nothing heavy by themselves; what needs it imports it when it is first used.
LIGHT = (
    "core",
    "images",
    "records",
    "chain",
    "points",
    "onnx",
    "recipe",
    "sources",
    "data",
    "artifact",
    "prediction",
    "integrations",
    "cli",
)
HEAVY = ("torch", "transformers", "neural_compressor", "timm", "torch_pruning", "matplotlib")
ROOMS = [
    "dynamic_exit",
    *sorted(
        each.name for each in pkgutil.walk_packages(dynamic_exit.__path__, "dynamic_exit.") if each.ispkg
    ),
]  # fmt: skip


def order(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest: as the imports that ruff sorts."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_says_what_it_is_for_and_lists_what_is_public(name):
    room = importlib.import_module(name)
    assert room.__doc__ and room.__doc__.strip().split("\n")[0].endswith((".", ":"))
    listed = list(room.__all__)
    assert listed == sorted(set(listed), key=order), "in order, each once"
    for each in listed:
        assert not each.startswith("_") or each == "__version__"
        assert getattr(room, each) is not None


def test_an_unknown_name_is_refused_as_python_does():
    with pytest.raises(AttributeError, match="module 'dynamic_exit' has no attribute 'compres'"):
        dynamic_exit.compres  # noqa: B018


@pytest.mark.parametrize("room", LIGHT)
def test_a_light_room_imports_nothing_heavy(room):
    code = f"import sys, dynamic_exit.{room}; print(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
