"""Hooks of pytest that the `conftest.py` of both test folders import: they look for no garbage among imports."""

import atexit
import gc
import sys

import pytest
from garbage import imports_kept

# until all is collected
gc.disable()

# new objects before the young are searched, and searches of each age before one of the next: exports make millions
# and hardly any garbage; the command asks for fewer still
_SELDOM = 2_000, 15, 15
# a large library brings hundreds of modules
_MANY = 30
_imported = 0


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Collect all tests, and with them import nearly all that there is."""
    with imports_kept():
        found = yield
    gc.set_threshold(*_SELDOM)
    _imported_much()
    # or some libraries report leaks when the interpreter clears everything
    atexit.register(gc.unfreeze)
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown():
    """Set aside what a test imported: libraries ask for full searches, which would go through it again and again."""
    done = yield
    if _imported_much():
        gc.collect()
        gc.freeze()
    return done


def _imported_much() -> bool:
    """Whether many modules are new since this last said so."""
    global _imported
    much = len(sys.modules) - _imported >= _MANY
    if much:
        _imported = len(sys.modules)
    return much
