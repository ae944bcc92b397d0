"""Fingerprint of a model's code: the files of user modules, those that they import, and the code that is loaded.

Files alone are not enough: code may come from a notebook or `exec`, or have been edited since it was loaded. Nor is
loaded code: a module that a function imports when it is called is not loaded yet. Libraries count by version, in
`model_fingerprint`.
"""

import ast
import enum
import functools
import inspect
import itertools
import sys
from collections.abc import Iterator, Mapping
from importlib.machinery import PathFinder
from importlib.util import resolve_name
from pathlib import Path
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from .hashing import array_fingerprint, digest
from .user_modules import is_user_file, resolve_sibling

_PLAIN = (
    *(bool, int, float, complex, str, bytes, type(None), type(...), range, slice),
    *(np.generic, np.dtype, torch.dtype, torch.device, torch.memory_format),
)
# attributes that torch keeps in every module; tensors, submodules and hooks are covered separately
_TORCH_ATTRIBUTES = frozenset(vars(nn.Module()))
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_IMPORTERS = ("import_module", "__import__", "run_module")
# attributes that Python adds to classes and modules
_PYTHON_ATTRIBUTES = frozenset(
    f"__{name}__"
    for name in (
        *("dict", "weakref", "module", "doc", "annotations", "firstlineno", "static_attributes"),
        *("builtins", "loader", "spec", "cached", "file", "path", "package", "name"),
    )
)


class CodeFingerprint:
    """Walks from models, classes and functions to all user code that they may run.

    User code is in files outside of the standard library, ``site-packages`` and this package, or has no file. The whole
    text of a file counts, and so does every user module that it imports anywhere, recursively. Of loaded code, the
    functions and classes count that are reached through the names in the code, with the constants, arrays and tensors
    that they refer to.
    """

    def __init__(self) -> None:
        self._files: dict[str, str] = {}
        self._code: list[str] = []
        self._classes: set[type] = set()
        self._seen: dict[int, tuple[Any, str]] = {}  # keeps the values alive: ids are not reused

    def sum(self) -> str:
        """Return the hash of all code that was walked."""
        return digest(sorted(self._files.items()), self._code)

    def value(self, value: Any) -> str:
        """Walk the code behind a value.

        Args:
            value: A number, string, tensor, array, a collection of them, a function, a class, a module, or any object.

        Returns:
            A string that identifies the value itself; the same in another process.
        """
        if isinstance(value, _PLAIN):
            return f"{type(value).__name__} {value!r}"
        if id(value) not in self._seen:
            self._seen[id(value)] = value, "itself"
            self._seen[id(value)] = value, self._object(value)
        return self._seen[id(value)][1]

    def _object(self, value: Any) -> str:
        if isinstance(value, torch.Tensor):
            return digest(*tensor_parts(value))
        if isinstance(value, np.ndarray):
            return "objects" if value.dtype.hasobject else array_fingerprint(value)
        onnx = sys.modules.get("onnx")  # whoever holds a model has loaded it
        if onnx is not None and isinstance(value, onnx.ModelProto):
            return digest(value.SerializeToString())
        if isinstance(value, Mapping):
            return digest("mapping", [digest(self.value(key), self.value(each)) for key, each in value.items()])
        if isinstance(value, list | tuple):
            return digest("list", [self.value(each) for each in value])
        if isinstance(value, set | frozenset):
            return digest("set", sorted(self.value(each) for each in value))
        if isinstance(value, functools.partial):
            return digest("partial", self.value([value.func, value.args, value.keywords]))
        if isinstance(value, MethodType):
            return digest("method", self.value(value.__func__), self.value(value.__self__))
        if isinstance(value, ModuleType):
            return self._module(value)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, FunctionType):
            return self._function(value)
        return self._instance(value)

    def _instance(self, value: Any) -> str:
        kind, held = self._class(type(value)), vars(value) if hasattr(value, "__dict__") else {}
        if isinstance(value, nn.Module):
            return digest(kind, self.module_parts(value))
        if not _of_user(type(value)):  # other attributes of library objects may depend on the process
            held = {key: each for key, each in held.items() if isinstance(each, _PLAIN)}
        name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None) if callable(value) else None
        # builtin functions, members of an Enum, and wrappers such as functools.cache
        inner = [getattr(value, key, None) for key in ("__wrapped__", "func", "fget", "fset", "__func__")]
        return digest(kind, str(name), str(value) if isinstance(value, enum.Enum) else "", self.value([held, *inner]))

    def module_parts(self, module: nn.Module) -> list[str]:
        """Walk a model; return strings for its names, classes, plain attributes, hooks and tensors."""
        found = []
        for name, part in module.named_modules():
            own = {key: value for key, value in vars(part).items() if key not in _TORCH_ATTRIBUTES}
            hooks = [hook for key in _HOOKS for hook in vars(part).get(key, {}).values()]
            found += [name, self._class(type(part)), part.extra_repr(), self._forward(part)]
            found += [digest(key, self.value(value)) for key, value in sorted(own.items())]
            found += [self.value(hook) for hook in hooks]
        for name, tensor in itertools.chain(module.named_parameters(), module.named_buffers()):
            found.append(digest(name, *tensor_parts(tensor)))
        return found

    def _forward(self, part: nn.Module) -> str:
        """Return the code of a forward that torch generated, for an fx graph or a script."""
        if isinstance(part, torch.fx.GraphModule):
            called = dict.fromkeys(node.target for node in part.graph.nodes if isinstance(node.target, FunctionType))
            return digest(part.code, [self.value(function) for function in called])
        if isinstance(part, torch.jit.ScriptModule) and hasattr(part, "forward"):
            code, constants = part.code_with_constants
            return digest(code, self.value(constants.const_mapping))
        return ""

    def _class(self, kind: type) -> str:
        for each in kind.__mro__:
            if each in self._classes:
                continue
            self._classes.add(each)
            self._file(_file_of(each), each.__module__)
            if _of_user(each):
                members = [(key, value) for key, value in sorted(vars(each).items()) if key not in _PYTHON_ATTRIBUTES]
                self._code += [digest(each.__qualname__, key, self.value(value)) for key, value in members]
        return f"{kind.__module__}.{kind.__qualname__}"

    def _function(self, function: FunctionType) -> str:
        name = f"{function.__module__}.{function.__qualname__}"
        if not _of_user(function):
            return name
        self._file(function.__code__.co_filename, function.__module__)
        given = [function.__defaults__, function.__kwdefaults__, getattr(function, "__wrapped__", None)]
        given += [cell.cell_contents for cell in function.__closure__ or () if cell != CellType()]
        read = [(key, function.__globals__[key]) for key in _names(function.__code__) if key in function.__globals__]
        self._code.append(digest(name, _code_sum(function.__code__), self.value(given)))
        self._code += [digest(name, key, self.value(value)) for key, value in read]
        return name

    def _module(self, module: ModuleType) -> str:
        if file := getattr(module, "__file__", None):
            if is_user_file(file):
                self._file(file, module.__name__)
        elif module.__name__.partition(".")[0] not in sys.stdlib_module_names:  # created in memory
            self._code.append(
                self.value({key: value for key, value in vars(module).items() if key not in _PYTHON_ATTRIBUTES})
            )
        return f"module {module.__name__}"

    def _file(self, path: str | None, module: str) -> None:
        """Add the file of a module, and if it is user code those that it imports."""
        if path is None or path in self._files or not Path(path).is_file():
            return
        content = Path(path).read_bytes()
        self._files[path] = digest(content)
        if not is_user_file(path):
            return
        loaded = sys.modules.get(module)
        above = module if Path(path).stem == "__init__" else module.rpartition(".")[0]
        package = getattr(loaded, "__package__", None) or above
        for text in _named_files(content):
            self._file(str(Path(path).parent / text), "")
        for name in _imports(content, package):
            for found, file in _files_of(name, package):
                if is_user_file(file):
                    self._file(file, found)


def tensor_parts(tensor: torch.Tensor) -> tuple[str, str, bytes]:
    """Return a tensor's dtype, shape and bytes."""
    whole = tensor.detach().cpu().contiguous()
    return str(whole.dtype), str(tuple(whole.shape)), whole.view(-1).view(torch.uint8).numpy().tobytes()


def _of_user(thing: type | FunctionType) -> bool:
    file = thing.__code__.co_filename if isinstance(thing, FunctionType) else _file_of(thing)
    if file and Path(file).is_absolute():
        return is_user_file(file)
    top = (thing.__module__ or "").partition(".")[0]
    if top in sys.stdlib_module_names:
        return False
    # code without a file belongs to its module: generated by a library, a notebook or `exec`
    home = getattr(sys.modules.get(top), "__file__", None)
    return home is None or is_user_file(home)


def _file_of(kind: type) -> str | None:
    try:
        return inspect.getsourcefile(kind)
    except (TypeError, OSError):  # created in memory, or compiled
        return None


def _code_sum(code: CodeType) -> str:
    constants = [
        _code_sum(each)
        if isinstance(each, CodeType)
        else repr(sorted(map(repr, each)) if isinstance(each, frozenset) else each)
        for each in code.co_consts
    ]
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_flags, code.co_argcount)
    return digest(code.co_code, repr(names), constants)


def _names(code: CodeType) -> list[str]:
    """Return all names that a function's code reads, including nested functions."""
    within = [name for each in code.co_consts if isinstance(each, CodeType) for name in _names(each)]
    return sorted({*code.co_names, *within})


@functools.lru_cache(4096)
def _imports(content: bytes, package: str) -> tuple[str, ...]:
    """Return the full names of the modules that a file may import anywhere; none if it has a syntax error."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return ()
    return tuple(dict.fromkeys(name for node in ast.walk(tree) for name in _named(node, package)))


@functools.lru_cache(4096)
def _named_files(content: bytes) -> tuple[str, ...]:
    """Return the texts in a file that are names of Python files, which it may run or read; none if it has an error."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return ()
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return tuple(dict.fromkeys(text for text in texts if text.endswith(".py") and "\0" not in text and len(text) < 200))


def _named(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (each.name for each in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            try:
                base = resolve_name("." * node.level + base, package)
            except ImportError:  # beyond the top-level package: it fails at run time
                return
        yield base
        yield from (f"{base}.{each.name}" for each in node.names)
    elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in _IMPORTERS:
        given = [each.value for each in node.args[:1] if isinstance(each, ast.Constant)]
        yield from (resolve_name(name, package) for name in given if isinstance(name, str) and name.strip("."))


def _files_of(name: str, package: str) -> list[tuple[str, str]]:
    """Return name and file of a module and of its parent packages, those that have one."""
    full = resolve_sibling(package, name) or name
    found, path, steps = [], None, full.split(".")
    for count in range(1, len(steps) + 1):
        current = ".".join(steps[:count])
        module = sys.modules.get(current)
        if module is not None:
            file, path = getattr(module, "__file__", None), getattr(module, "__path__", None)
        else:
            try:
                spec = PathFinder.find_spec(current, path and list(path))
            except (ImportError, ValueError, AttributeError):
                spec = None
            file, path = (spec.origin, spec.submodule_search_locations) if spec else (None, None)
        if file:
            found.append((current, file))
        if path is None:
            break
    return found
