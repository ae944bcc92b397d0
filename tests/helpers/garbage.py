"""Python's search for cycles of garbage, which goes through all that libraries have made, again and again."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def imports_kept() -> Iterator[None]:
    """Look for no garbage in the block; what is there at its end stays, and is not looked through any more."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
