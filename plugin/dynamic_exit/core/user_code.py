"""Functions of the user that a recipe names: models, data, augmentation."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import RecipeError, first_line, nearest
from .user_modules import load_file


def load_function(reference: str) -> Callable[..., Any]:
    """Load a function, given as ``file.py:function`` or ``package.module:function``.

    Raises:
        RecipeError: The file, module or function does not exist, or the module cannot be imported.
    """
    place, _, name = reference.rpartition(":")
    if not place:
        raise RecipeError(f"'{reference}' must name a function as file.py:function")
    module = _load_module(place)
    if not callable(getattr(module, name, None)):
        functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise RecipeError(f"'{place}' has no function '{name}'; {nearest(name, functions)}")
    function: Callable[..., Any] = getattr(module, name)
    return function


def function_names(place: str) -> list[str]:
    """Return the names of the public functions and classes that a module defines.

    Args:
        place: ``file.py`` or ``package.module``.

    Raises:
        RecipeError: The file or module does not exist or cannot be imported.
    """
    module = _load_module(place)
    own = {key: value for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
    return [key for key, value in own.items() if callable(value) and not key.startswith("_")]


def _load_module(place: str) -> ModuleType:
    try:
        return _load_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except RecipeError:
        raise
    except (Exception, SystemExit) as error:  # user code may raise anything, syntax errors included
        raise RecipeError(f"'{place}' cannot be imported: {first_line(error)}; repair it") from error


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise RecipeError(f"file '{path}' does not exist; check the path")
    return load_file(path)
