"""Keeps torch.export from going over all of its operators again and again, which is most of the time of a small export.

To decompose a program, torch 2.14 asks the C++ side for its operators once for each of forty namespaces, and overrides
hundreds of them for each of twenty kinds of devices, in order to take all of that back again.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch

#: Lists of torch.export.exported_program, of the devices for which it overrides operators.
_DEVICE_LISTS = ("_AUTOGRAD_ALIAS_BACKEND_KEYS_TO_OVERRIDE", "_BACKEND_KEYS_TO_OVERRIDE")
#: Where a tensor of an export can be if there is no accelerator.
_HERE = ("CPU", "Meta", "AutogradCPU", "AutogradMeta")


@contextmanager
def one_pass_over_operators() -> Iterator[None]:
    """Inside, operators are looked up once, and overridden for devices that are there; programs come out the same."""
    try:
        from torch._export import utils
        from torch.export import exported_program

        keys = {name: list(getattr(exported_program, name)) for name in _DEVICE_LISTS}
        changes: list[Any] = [
            mock.patch.object(utils, "_materialize_cpp_cia_ops", _once(utils._materialize_cpp_cia_ops))
        ]
    except (ImportError, AttributeError):  # torch promises none of them; without them it only takes longer
        yield
        return
    if not torch.accelerator.is_available():
        changes += [
            mock.patch.object(exported_program, name, [key for key in given if key.name in _HERE])
            for name, given in keys.items()
        ]
    with ExitStack() as stack:
        for change in changes:
            stack.enter_context(change)
        yield


def _once(work: Callable[[], None]) -> Callable[[], None]:
    # what a program is made of has been looked up by then: its nodes hold the operators
    left = [work]
    return lambda: left.pop()() if left else None
