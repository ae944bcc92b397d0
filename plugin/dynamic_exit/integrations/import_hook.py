"""Callbacks that run as soon as a module of another package is imported."""

import sys
import threading
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

_callbacks: dict[str, list[Callable[[], None]]] = {}


def after_import(module: str, callback: Callable[[], None]) -> None:
    """Call a function now if a module is imported already, else right after its import.

    This imports nothing by itself. It may be called any number of times with the same function.

    Args:
        module: Full name of the module.
        callback: What it raises, the import of the module raises; the next import then calls it again.
    """
    if module in sys.modules:
        callback()
        return
    waiting = _callbacks.setdefault(module, [])
    if callback not in waiting:
        waiting.append(callback)
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)


class _Finder:
    """Finds the awaited modules by the other finders and wraps their loaders; knows no other module."""

    def __init__(self) -> None:
        self._local = threading.local()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _callbacks or getattr(self._local, "searching", False):
            return None
        self._local.searching = True
        try:
            spec = find_spec(fullname)
        finally:
            self._local.searching = False
        if spec is not None and spec.loader is not None:
            spec.loader = _CallingLoader(spec.loader)  # type: ignore[assignment]  # importlib.abc is slow to import
        return spec


class _CallingLoader:
    """Loads a module with its own loader, then calls what waits for it; the last one removes the finder.

    Args:
        loader: The loader to wrap; the loaded module knows only this one.
    """

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:  # whatever else a loader offers, such as `get_source`
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        for callback in _callbacks.get(module.__name__, ()):
            callback()
        _callbacks.pop(module.__name__, None)
        if not _callbacks and _FINDER in sys.meta_path:
            sys.meta_path.remove(_FINDER)


_FINDER = _Finder()
