"""Lazy public names of a package (PEP 562), and modules that may never be needed."""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class LazyModule:
    """A module, by its name, that is imported when something of it is first used."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._name), name)


def lazy_exports(
    package: str, modules: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` of a package whose public names are imported when they are first used.

    Args:
        package: The package's `__name__`.
        modules: Module of the package, such as ``pool`` or ``static_search.search`` -> its names.
    """
    places = {name: f".{module}" for module, names in modules.items() for name in names}

    def get_attribute(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(places[name], package), name)

    def list_names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *places})

    return get_attribute, list_names
