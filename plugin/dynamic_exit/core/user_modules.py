"""Modules of the user's beside a file that a recipe names: each folder has its own, whatever they are called.

A folder is a package under a name of its own. What a file of it imports and finds beside itself, by ``import helpers``
or ``from . import helpers``, at its top or within a function, is a module of that package; so the `helpers` of one
folder are never taken for those of another, and neither `sys.path` nor what others import is touched.
"""

import builtins
import functools
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Mapping
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType

_PREFIX = "dynamic_exit_recipe_"
_PACKAGE = Path(__file__).resolve().parents[1]
_SUM = "__dynamic_exit_sum__"


@functools.cache
def is_user_file(path: str) -> bool:
    """Whether a file is the user's: neither this package's, nor the standard library's, nor below ``site-packages``."""
    file = Path(path)
    if not file.is_absolute() or {"site-packages", "dist-packages"} & {*file.parts}:
        return False
    libraries = [Path(sysconfig.get_paths()[key]).resolve() for key in ("stdlib", "platstdlib")]
    return not any(file.resolve().is_relative_to(place) for place in (_PACKAGE, *libraries))


def load_file(path: Path) -> ModuleType:
    """Run a file as a module of its folder's package, anew at each call; a module beside it once, and when it changes.

    Args:
        path: An existing file.

    Returns:
        The module.
    """
    folder, name = path.parent.absolute(), path.stem
    package = _PREFIX + hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    if not name.isidentifier():
        name = f"file_{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    if finder := sys.path_importer_cache.get(str(folder)):
        finder.invalidate_caches()  # a file that came a moment ago
    if _has_changed(package):
        for each in _modules(package):
            del sys.modules[each]
    if package not in sys.modules:
        _add_package(package, folder)
    key = f"{package}.{name}"
    spec = importlib.util.spec_from_file_location(key, path, loader=_Loader(key, str(path.absolute())))
    module = importlib.util.module_from_spec(spec)
    sys.modules[key] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(key, None)
        raise
    return module


def resolve_sibling(package: str, name: str) -> str | None:
    """Return the name under which a module that stands beside a file is loaded, as by ``import name`` in that file.

    Args:
        package: Of the module that imports.
        name: Dotted, as it is written.

    Returns:
        The full name; None where `name` is no module beside the file, or one of a library.
    """
    root, top = package.partition(".")[0], name.partition(".")[0]
    if not root.startswith(_PREFIX) or root not in sys.modules or top in sys.stdlib_module_names:
        return None
    spec = PathFinder.find_spec(f"{root}.{top}", sys.modules[root].__path__)
    if spec is None:
        return None
    other = PathFinder.find_spec(top)
    if other and other.origin and (not is_user_file(other.origin) or spec.origin is None):
        return None  # an installed package, or a module elsewhere and here but a folder of data
    return f"{root}.{name}"


def _add_package(name: str, folder: Path) -> None:
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    sys.modules[name] = importlib.util.module_from_spec(spec)
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _modules(package: str) -> dict[str, ModuleType]:
    """The modules of a package that are loaded, itself included."""
    return {name: each for name, each in sys.modules.items() if name == package or name.startswith(f"{package}.")}


def _has_changed(package: str) -> bool:
    """Whether the file of a module has changed since it was run."""
    kept = {module.__file__: vars(module).get(_SUM) for module in _modules(package).values() if _SUM in vars(module)}
    return any(not Path(file).is_file() or _sum(Path(file).read_bytes()) != total for file, total in kept.items())


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class _Finder(MetaPathFinder):
    """Finds modules of folders; the names of all others it leaves alone."""

    def find_spec(self, name, path=None, target=None):
        if not name.startswith(_PREFIX):
            return None
        spec = PathFinder.find_spec(name, path)
        if spec and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    """Runs a file's text as it stands: what was compiled before is found by time and size, which may not tell."""

    def exec_module(self, module: ModuleType) -> None:
        content = self.get_data(self.path)
        setattr(module, _SUM, _sum(content))
        module.__builtins__ = {**vars(builtins), "__import__": _import}
        exec(self.source_to_code(content, self.path), vars(module))  # noqa: S102  code that the recipe names


def _import(
    name: str,
    globals: Mapping | None = None,  # noqa: A002  as Python calls it
    locals: Mapping | None = None,  # noqa: A002
    fromlist: tuple = (),
    level: int = 0,
) -> ModuleType:
    """Import as Python does, but take what stands beside the importing file first."""
    full = resolve_sibling((globals or {}).get("__package__") or "", name) if level == 0 else None
    if full is None:
        return builtins.__import__(name, globals, locals, fromlist, level)
    module = builtins.__import__(full, globals, locals, fromlist, 0)
    # without names Python gives the first of the dotted ones, here the folder's package
    return module if fromlist else sys.modules[".".join(full.split(".")[:2])]
