"""Python's search for cycles of garbage, which imports and exports set off again and again for hardly any garbage."""

import contextlib
import gc
from collections.abc import Iterator

# new objects before the young are searched, and searches of each age before one of the next: imports make 100,000s
_THRESHOLDS = (20_000, 20, 50)


@contextlib.contextmanager
def rare_searches() -> Iterator[None]:
    """Search more rarely in the block; what nothing refers to is freed at once all the same."""
    before = gc.get_threshold()
    gc.set_threshold(*_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
