"""Modules of the user beside a file that a recipe names, kept apart by folder.

Each folder becomes a package under a unique name; one inside a package of the user's is a subpackage of it. What a file
imports from beside itself, by ``import helpers``, ``from . import helpers``, `import_module` or `run_module`, be it at
its top or within a function, is a module of that package: the `helpers` of one folder are never taken for those of
another, and neither `sys.path` nor the imports of other modules are touched.
"""

import ast
import builtins
import functools
import hashlib
import importlib
import importlib.util
import runpy
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import FileFinder, ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

_PREFIX = "dynamic_exit_recipe_"
_PACKAGE = Path(__file__).resolve().parents[1]
_SUM = "__dynamic_exit_sum__"
# packages of folders that loaded files are in: what is beside those files is found, as beside a script
_folders: set[str] = set()


@functools.cache
def is_user_file(path: str) -> bool:
    """Whether a file belongs to the user, not to this package, the standard library or ``site-packages``."""
    file = Path(path)
    if not file.is_absolute() or {"site-packages", "dist-packages"} & {*file.parts}:
        return False
    libraries = [Path(sysconfig.get_paths()[key]).resolve() for key in ("stdlib", "platstdlib")]
    return not any(file.resolve().is_relative_to(place) for place in (_PACKAGE, *libraries))


def load_file(path: Path) -> ModuleType:
    """Run a file as a module of its folder's package, at each call; modules beside it run once, and again when changed.

    Args:
        path: An existing file.

    Returns:
        The module.
    """
    folder, name = path.parent.absolute(), path.stem
    top = _find_top(path.absolute())
    root = _PREFIX + hashlib.sha256(str(top).encode()).hexdigest()[:12]
    package = ".".join((root, *folder.relative_to(top).parts))
    if not name.isidentifier():
        name = f"file_{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    finder = sys.path_importer_cache.get(str(folder))
    if isinstance(finder, FileFinder):
        finder.invalidate_caches()  # the file may be a moment old
    if _has_changed(root):
        for each in _modules(root):
            del sys.modules[each]
    if root not in sys.modules:
        _add_package(root, top)
    _folders.add(package)
    if package != root:
        importlib.import_module(package)
    key = f"{package}.{name}"
    loader = _Loader(key, str(path.absolute()))
    spec = ModuleSpec(key, loader, origin=loader.path)
    spec.has_location = True
    module = importlib.util.module_from_spec(spec)
    sys.modules[key] = module
    try:
        loader.exec_module(module)
    except BaseException:
        sys.modules.pop(key, None)
        raise
    return module


def resolve_sibling(package: str, name: str) -> str | None:
    """Return the full name of a module beside a file, for ``import name`` in that file.

    Args:
        package: Package of the importing module.
        name: Dotted name, as written in the import.

    Returns:
        The full name; None if `name` is not a module beside the file, or is one of a library.
    """
    root, top = package.partition(".")[0], name.partition(".")[0]
    if not root.startswith(_PREFIX) or root not in sys.modules or top in sys.stdlib_module_names:
        return None
    steps = package.split(".")
    around = [".".join(steps[:count]) for count in range(len(steps), 0, -1)]
    for place in (each for each in around if each == root or each in _folders):
        spec = PathFinder.find_spec(f"{place}.{top}", getattr(sys.modules.get(place), "__path__", []))
        if spec is None:
            continue
        other = PathFinder.find_spec(top)
        if other and other.origin and (not is_user_file(other.origin) or spec.origin is None):
            return None  # an installed package, or a module elsewhere while here is only a folder of data
        return f"{place}.{name}"
    return None


def _find_top(path: Path) -> Path:
    """Return the folder that the packages around a file begin in: its own, if it is in no package."""
    above = [*path.parents]
    depth = next(count for count, folder in enumerate(above) if not (folder / "__init__.py").is_file())
    return above[min(max(depth, _relative_level(path) - 1), len(above) - 1)]


def _relative_level(path: Path) -> int:
    """Return how many dots a file's relative imports begin with at most."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return 0  # it is told when the file runs
    return max((node.level for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)), default=0)


def _add_package(name: str, folder: Path) -> None:
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    sys.modules[name] = importlib.util.module_from_spec(spec)
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _modules(package: str) -> dict[str, ModuleType]:
    """Return the loaded modules of a package, itself included."""
    return {name: each for name, each in sys.modules.items() if name == package or name.startswith(f"{package}.")}


def _has_changed(package: str) -> bool:
    """Whether the file of a loaded module has changed since it ran."""
    ran = [(Path(str(each.__file__)), vars(each)[_SUM]) for each in _modules(package).values() if _SUM in vars(each)]
    return any(not file.is_file() or _sum(file.read_bytes()) != known for file, known in ran)


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class _Finder(MetaPathFinder):
    """Finds modules of these folders, and no others."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not name.startswith(_PREFIX):
            return None
        spec = PathFinder.find_spec(name, path)
        if spec and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    """Runs a file's current text: compiled files are matched by time and size, which may miss a change."""

    def get_code(self, fullname: str) -> CodeType:
        """Return what `run_module` runs."""
        return self.source_to_code(self.get_data(self.path), self.path)

    def exec_module(self, module: ModuleType) -> None:
        content = self.get_data(self.path)
        setattr(module, _SUM, _sum(content))
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": _import}
        exec(self.source_to_code(content, self.path), vars(module))  # noqa: S102  the recipe names this code


def _import(
    name: str,
    globals: Mapping[str, Any] | None = None,  # noqa: A002  as Python calls it
    locals: Mapping[str, Any] | None = None,  # noqa: A002
    fromlist: Sequence[str] = (),
    level: int = 0,
) -> ModuleType:
    """Import as Python does, but prefer modules beside the importing file."""
    if globals is None:  # called as a function
        globals = sys._getframe(1).f_globals
    if name.partition(".")[0] in _LOOKING_BESIDE and level == 0:
        module = builtins.__import__(name, globals, locals, fromlist, 0)
        return _LOOKING_BESIDE.get(module.__name__, module)
    full = resolve_sibling((globals or {}).get("__package__") or "", name) if level == 0 else None
    if full is None:
        return builtins.__import__(name, globals, locals, fromlist, level)
    module = builtins.__import__(full, globals, locals, fromlist, 0)
    # `import a.b` gives `a`, which here is below a folder's package
    return module if fromlist else sys.modules[full.removesuffix(name) + name.partition(".")[0]]


class _LooksBeside(ModuleType):
    """A module as files of the user see it: one function of it prefers modules beside the calling file."""

    def __init__(self, original: ModuleType, function: str, first: str):
        super().__init__(original.__name__)
        self.original, self.first = original, first
        setattr(self, function, functools.partial(self._call, getattr(original, function)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)

    def _call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        name, *others = arguments or [named.pop(self.first)]
        caller = sys._getframe(1).f_globals.get("__package__") or ""
        full = None if name.startswith(".") else resolve_sibling(caller, name)
        return function(full or name, *others, **named)


_NAMING = ((importlib, "import_module", "name"), (runpy, "run_module", "mod_name"))
_LOOKING_BESIDE = {each[0].__name__: _LooksBeside(*each) for each in _NAMING}
