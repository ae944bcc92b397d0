"""Pages of files that are mapped into memory, given back to the system once a batch was read."""

import contextlib
import mmap
import weakref

_open_maps: "weakref.WeakSet[mmap.mmap]" = weakref.WeakSet()


def release_later(mapped: mmap.mmap) -> None:
    """Let `release_pages` give back the pages of a map as long as it is in use."""
    _open_maps.add(mapped)


def release_pages() -> None:
    """Give the pages of all maps back to the system; the next access reads them again, mostly from its cache.

    Without this a pass over a file counts as memory of the process until the system is short of it.
    """
    for mapped in list(_open_maps):
        with contextlib.suppress(ValueError):  # closed meanwhile
            mapped.madvise(mmap.MADV_DONTNEED)
