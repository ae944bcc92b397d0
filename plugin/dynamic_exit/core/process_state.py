"""State of the whole process that this package leaves as it found it."""

import contextlib
import multiprocessing
import random
import sys
from collections.abc import Iterator
from types import ModuleType


@contextlib.contextmanager
def preserve_process_state() -> Iterator[None]:
    """Restore the process's random numbers, its hook for uncaught errors and its start method for child processes.

    New layers draw random weights, the first progress bar creates a lock that fixes the start method, and typer
    replaces the hook. Works as a decorator, too. numpy and torch are not imported for it: where the block imports
    torch, its generator is left as a fresh import leaves it.
    """
    random_state, hook = random.getstate(), sys.excepthook
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    numpy_state = numpy.random.get_state() if numpy else None
    start_method = multiprocessing.get_start_method(allow_none=True)
    try:
        with _preserve_torch(torch):
            yield
    finally:
        random.setstate(random_state)
        if numpy:
            numpy.random.set_state(numpy_state)
        sys.excepthook = hook
        if start_method is None:
            multiprocessing.set_start_method(None, force=True)


@contextlib.contextmanager
def _preserve_torch(torch: ModuleType | None) -> Iterator[None]:
    if torch is not None:
        devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
        with torch.random.fork_rng(devices=devices):
            yield
        return
    try:
        yield
    finally:
        torch = sys.modules.get("torch")
        if torch is not None and hasattr(torch, "default_generator"):
            torch.default_generator.set_state(torch.Generator().get_state())
