"""Recipes that were downloaded: code that they name is not run unless the user says that it may be."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import RecipeError

# file.py:function, and package.module:function
_CODE = re.compile(r"(?:.+\.py|[A-Za-z_]\w*(?:\.\w+)*):[A-Za-z_]\w*")
# folders of each repository in the hub's cache; files in the first are links into the second
_CACHED = ("snapshots", "blobs")


def is_downloaded(path: str | os.PathLike[str]) -> bool:
    """Whether a file lies in the hub's cache, or in a folder where huggingface_hub wrote what it has downloaded.

    Links are followed, as one in a folder of the user's may lead there.
    """
    folder, name = os.path.split(path)
    places = {os.path.abspath(path), os.path.join(os.path.realpath(folder), name), os.path.realpath(path)}
    return any(_is_download(parent) for place in places for parent in Path(place).parents)


def _is_download(folder: Path) -> bool:
    cached = folder.name in _CACHED and all((folder.parent / name).is_dir() for name in _CACHED)
    return cached or (folder / ".cache" / "huggingface" / "download").is_dir()


def check_no_code(path: str | os.PathLike[str], values: object) -> None:
    """Check that a recipe which was downloaded names no code.

    Args:
        path: Its file.
        values: What it says.

    Raises:
        RecipeError: It was downloaded, and names code.
    """
    named = next(_code(values), None)
    if named and is_downloaded(path):
        raise RecipeError(
            f"recipe '{path}' was downloaded and names code, '{named}', which is not run; read it, and copy the recipe "
            "and its code to a folder of your own, or pass trust_remote_code=True to read_recipe, or "
            "--trust-remote-code to evaluate or benchmark"
        )


def _code(values: Any) -> Iterator[str]:
    """Yield what stands for code: functions, and leave to run that of a model on the hub."""
    if isinstance(values, dict | list):
        if isinstance(values, dict) and values.get("trust_remote_code"):
            yield "trust_remote_code: true"
        for each in values.values() if isinstance(values, dict) else values:
            yield from _code(each)
    elif isinstance(values, str) and _CODE.fullmatch(values):
        yield values
