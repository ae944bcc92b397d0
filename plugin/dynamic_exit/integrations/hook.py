"""Import hook that registers the passes with Neural Compressor as soon as that is imported."""

import sys
import threading
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

#: The module of Neural Compressor whose import registers the algorithms for torch models.
TARGET = "neural_compressor.torch.quantization"


def install() -> None:
    """Register the passes now if Neural Compressor is imported already, else right after its import.

    This imports nothing by itself. It may be called any number of times.

    Raises:
        PassError: Neural Compressor is imported and too old, or already has an algorithm with the name of a pass.
    """
    if TARGET in sys.modules:
        _register()
    elif _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)


def _register() -> None:
    # where that package is itself what imports Neural Compressor, this does nothing: it registers at its own end
    import dynamic_exit.integrations.neural_compressor  # noqa: F401


class _Finder(MetaPathFinder):
    """Finds `TARGET` by the other finders and wraps its loader; knows no other module."""

    def __init__(self) -> None:
        self._local = threading.local()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != TARGET or getattr(self._local, "searching", False):
            return None
        self._local.searching = True
        try:
            spec = find_spec(fullname)
        finally:
            self._local.searching = False
        if spec is not None and spec.loader is not None:
            spec.loader = _RegisteringLoader(spec.loader)
        return spec


class _RegisteringLoader(Loader):
    """Loads `TARGET` with its own loader, then registers the passes and removes the finder.

    Args:
        loader: The loader to wrap; the loaded module knows only this one.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:  # whatever else a loader offers, such as `get_source`
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _register()  # if this fails, the import fails and the finder stays, so that the next import says so again
        if _FINDER in sys.meta_path:
            sys.meta_path.remove(_FINDER)


_FINDER = _Finder()
