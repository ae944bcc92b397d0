"""Objects that a fork cannot use: threads of the parent do not come along."""

import os
import weakref
from typing import Protocol

_in_fork = False


class Forkable(Protocol):
    """What is told in a fork that it is in one."""

    def leave_parent(self) -> None:
        """Keep what the parent's threads work for from being used or closed, as either may wait for them forever."""


_known: "weakref.WeakSet[Forkable]" = weakref.WeakSet()


def tell_in_forks(item: Forkable) -> None:
    """Call `leave_parent` of an object in every process that is forked from this one while it lives."""
    _known.add(item)


def in_fork() -> bool:
    """Whether this process was forked from one that had such objects, and with them threads."""
    return _in_fork


def keep_forever(value: object) -> None:
    """Keep an object from being destroyed, even when the process ends."""
    import ctypes  # forks alone need it

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


def _begin_fork() -> None:
    global _in_fork
    for item in list(_known):
        _in_fork = True
        item.leave_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_fork)
