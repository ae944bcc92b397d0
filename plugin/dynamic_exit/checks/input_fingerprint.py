"""The fingerprint of what a run is made of."""

import ast
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core.hashing import digest, file_fingerprint
from ..core.model_fingerprint import environment_fingerprint
from ..recipe.recipe import Recipe

# of a path with more, names, sizes and times count, not the content
_MAX_BYTES = 1_000_000_000


def fingerprint_inputs(recipe: Recipe) -> str:
    """Return what changes with a recipe, the files and functions that it names, this package or a library.

    Args:
        recipe: The recipe; where it writes does not count. What its functions read does not count either, nor what
            stands behind names on the hub.
    """
    values = recipe.model_dump(mode="json")
    values["export"].pop("directory")
    values["dynamic_exit"].pop("cache")
    contents = [_content(text) for text in _paths(values)]
    written = json.dumps(values, sort_keys=True)
    for text in _paths(values):  # the same files elsewhere are the same
        written = written.replace(json.dumps(text), json.dumps(Path(text).name))
    return digest(written, contents, environment_fingerprint("pipeline"))


def _paths(values: Any) -> Iterator[str]:
    """Yield all paths, and functions in files, that a dumped recipe holds."""
    if isinstance(values, dict | list):
        for each in values.values() if isinstance(values, dict) else values:
            yield from _paths(each)
    elif isinstance(values, str) and os.path.isabs(values):
        yield values


def _content(text: str) -> str:
    function = re.fullmatch(r"(.+\.py):\w+", text)
    if function:
        return _code(Path(function[1]))
    path = Path(text)
    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    known = [each for each in files if each.is_file()]
    names = [str(each.relative_to(path)) for each in known]
    stats = [each.stat() for each in known]
    if sum(stat.st_size for stat in stats) > _MAX_BYTES:
        return digest(names, [f"{stat.st_size} {stat.st_mtime_ns}" for stat in stats])
    return digest(names, [file_fingerprint(each) for each in known])


def _code(file: Path) -> str:
    """Return the fingerprint of a file's code and of all that it may import from beside itself; without comments."""
    top = file.parent
    while (top / "__init__.py").is_file():
        top = top.parent
    packages = [each for each in top.iterdir() if (each / "__init__.py").is_file()]
    parts: list[str] = []
    for each in sorted([*top.glob("*.py"), *(inner for package in packages for inner in package.rglob("*.py"))]):
        content = each.read_bytes()
        try:
            code = ast.dump(ast.parse(content))
        except (SyntaxError, ValueError):
            code = repr(content)
        parts += [str(each.relative_to(top)), code]
    return digest(parts)
