"""Recipes that were downloaded: code that they name is not run unless the user says that it may be."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import RecipeError

# file.py:function, and package.module:function
_CODE = re.compile(r"(?:.+\.py|[A-Za-z_]\w*(?:\.\w+)*):[A-Za-z_]\w*")


def is_downloaded(path: str | os.PathLike[str]) -> bool:
    """Whether a file lies in the hub's cache, or in a folder where huggingface_hub wrote what it has downloaded."""
    folders = Path(os.path.abspath(path)).parents
    cached = any(each.name == "snapshots" and (each.parent / "blobs").is_dir() for each in folders)
    return cached or any((each / ".cache" / "huggingface" / "download").is_dir() for each in folders)


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
            "and its code to a folder of your own, or pass trust_remote_code=True to read_recipe"
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
