"""Registries: things of one kind by name, those of this package and those of other distributions."""

import importlib
import pkgutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from ..errors import DynamicExitError, first_line, nearest

_PACKAGE = Path(__file__).parents[1]
Item = TypeVar("Item")
Registered = TypeVar("Registered")


def find_built_in(folder: str, ending: str = "", *, first: Sequence[str] = ()) -> dict[str, str]:
    """Return the items in the files of a folder, for `built_in` of a `Registry`: each ``NAME<ending>.py`` has a `KIND`.

    Args:
        folder: Of this package, such as ``data``.
        ending: Of the files' names.
        first: Names in the order in which messages list them, before the names of other files.
    """
    names = sorted(path.stem.removesuffix(ending) for path in (_PACKAGE / folder).glob(f"[!_]*{ending}.py"))
    module = f"dynamic_exit.{folder.replace('/', '.')}"
    return {name: f"{module}.{name}{ending}:KIND" for name in dict.fromkeys([*first, *names])}


def import_items(package: ModuleType) -> None:
    """Import all modules of a package, which register their items as they are imported."""
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(found.name)


@dataclass(frozen=True)
class _Entry(Generic[Item]):
    item: Item
    owner: str
    origin: str | None = None


class Registry(Generic[Item]):
    """Items of one kind by name.

    Items of other distributions are entry points of one group; an entry's name is its item's name. They are loaded at
    the first look-up of a name that is not registered, or when all names are listed. One that cannot be loaded is left
    out with a warning; looking up its name says why.

    Args:
        kind: What an item is, in messages, such as ``exit head``.
        error: Type of the errors.
        group: Entry point group; None where other distributions cannot add items.
        built_in: Names of items that are imported at their first look-up -> ``module:attribute``; the modules may
            lie above that of the registry.
        reserved: Names that no item may have -> who has them.
        check: Called with name and item before it is registered; raises `error` for an item that is not of this kind.
    """

    def __init__(
        self,
        kind: str,
        error: type[DynamicExitError],
        group: str | None = None,
        *,
        built_in: Mapping[str, str] | None = None,
        reserved: Mapping[str, str] | None = None,
        check: Callable[[str, Any], object] = lambda name, item: None,
    ):
        self.kind, self.error, self.group = kind, error, group
        self._built_in, self._reserved, self._check = dict(built_in or {}), dict(reserved or {}), check
        self._entries: dict[str, _Entry[Item]] = {}
        self._broken: dict[str, str] = {}
        self._loaded = group is None

    def register(self, name: str) -> Callable[[Registered], Registered]:
        """Return a decorator that registers a class or function under `name`; it raises as `add` does."""

        def decorate(item: Registered) -> Registered:
            self.add(name, item)
            return item

        return decorate

    def add(self, name: str, item: Any, owner: str | None = None) -> None:
        """Register an item.

        Args:
            name: An identifier that no other item has.
            item: Of this kind.
            owner: Who registers it, in messages; None takes the item's module.

        Raises:
            DynamicExitError: Of the registry's type: the name or the item cannot be registered.
        """
        self.check_name(name)
        self._check(name, item)
        module: str = getattr(item, "__module__", None) or type(item).__module__
        self._entries[name] = _Entry(item, owner or module)

    def check_name(self, name: str) -> None:
        """Refuse a name that no identifier is, or that another item has.

        Raises:
            DynamicExitError: Of the registry's type.
        """
        if not name.isidentifier():
            article = "an" if self.kind[0] in "aeiou" else "a"
            raise self.error(f"{article} {self.kind} must be named by an identifier; got '{name}'")
        owner = self._entries[name].owner if name in self._entries else self._reserved.get(name)
        owner = self._built_in[name].partition(":")[0] if name in self._built_in else owner
        if owner is not None:
            raise self.error(f"{self.kind} '{name}' is already registered by {owner}; choose another name")

    def __contains__(self, name: str) -> bool:
        """Whether an item of this name is registered; entry points are loaded before the answer is no."""
        if name in self._built_in:
            return True
        if name not in self._entries:
            self.load_entry_points()
        return name in self._entries

    def find(self, name: str) -> Item:
        """Return an item.

        Raises:
            DynamicExitError: Of the registry's type: none has this name, or it could not be loaded.
        """
        if name in self:
            self._import(name)
            return self._entries[name].item
        reason = self.why_broken(name)
        if reason is not None:
            raise self.error(f"{self.kind} '{name}' could not be loaded: {reason}")
        raise self.error(f"unknown {self.kind} '{name}'; {nearest(name, self.names())}")

    def names(self) -> tuple[str, ...]:
        """Return all names in order of registration, those of other distributions last."""
        self.load_entry_points()
        return tuple({**self._built_in, **self._entries})

    def items(self) -> dict[str, Item]:
        """Return all items by name, in the order of `names`."""
        self.load_entry_points()
        return self.registered()

    def registered(self) -> dict[str, Item]:
        """Return the items that are registered by now; entry points are not loaded for it."""
        for name in self._built_in:
            self._import(name)
        return {name: self._entries[name].item for name in {**self._built_in, **self._entries}}

    def built_in_module(self, name: str) -> str | None:
        """Return the module of an item that is imported at its first look-up; None for others."""
        return self._built_in[name].partition(":")[0] if name in self._built_in else None

    def _import(self, name: str) -> None:
        if name in self._built_in and name not in self._entries:
            module, _, attribute = self._built_in[name].partition(":")
            self._entries[name] = _Entry(getattr(importlib.import_module(module), attribute), module)

    def why_broken(self, name: str) -> str | None:
        """Return why the item of this name could not be loaded; None if it was, or is unknown."""
        return None if name in self._built_in or name in self._entries else self._broken.get(name)

    def load_entry_points(self, register: Callable[[str, Any, str], object] | None = None) -> None:
        """Register the items of all installed distributions, once.

        Args:
            register: Registers an item by name; its third argument is its distribution. None takes `add`.
        """
        if self._loaded:
            return
        self._loaded = True  # what is loaded now may look up names itself
        found = entry_points(group=self.group or "")
        for entry in sorted(found, key=lambda entry: (entry.name, entry.value)):
            self._load(entry, register or self._add_loaded)

    def _load(self, entry: EntryPoint, register: Callable[[str, Any, str], object]) -> None:
        origin = entry.dist.name if entry.dist else entry.value
        known = self._entries.get(entry.name)
        if known is not None and known.origin == origin:  # a folder that is twice on the path is listed twice
            return
        try:
            register(entry.name, entry.load(), origin)
            made = self._entries[entry.name]
            self._entries[entry.name] = _Entry(made.item, made.owner, origin)
        except Exception as error:  # other code may raise anything
            reason = str(error) if isinstance(error, self.error) else f"{type(error).__name__}: {first_line(error)}"
            if isinstance(error, AttributeError) and "circular import" in reason:
                reason = f"'{entry.module}' was imported first; import dynamic_exit before it"
            self._broken[entry.name] = reason
            warnings.warn(f"{self.kind} '{entry.name}' of '{origin}' is left out: {reason}", stacklevel=3)

    def _add_loaded(self, name: str, item: Any, origin: str) -> None:
        known = self._entries.get(name)
        if known is None or known.item is not item:  # its module may have registered it
            self.add(name, item)
