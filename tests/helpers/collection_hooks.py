"""Hooks of pytest that the `conftest.py` of both test folders import: they look for no garbage among imports."""

import gc

import pytest
from garbage import imports_kept


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Collect all tests, and with them import nearly all that there is."""
    with imports_kept():
        return (yield)


def pytest_sessionfinish():
    """Let the interpreter clear everything, or some libraries report leaks at its end."""
    gc.unfreeze()
