"""Time that threads spend waiting for a processor, as Linux counts it."""

import os
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class Waits(NamedTuple):
    """Seconds since some point in the past; 0 if the system does not count them.

    Attributes:
        thread: While the calling thread was ready to run, but others had the processor.
        process: The same, summed over all threads of the process.
        stolen: While the host of a virtual machine gave it no processor.
    """

    thread: float
    process: float
    stolen: float

    def since(self, before: "Waits") -> "Waits":
        """Return the difference to an earlier reading."""
        return Waits(*(max(now - then, 0.0) for now, then in zip(self, before, strict=True)))


def read_waits() -> Waits:
    """Read the counters of the system."""
    tasks = Path("/proc/self/task")
    process = sum(_queued(task / "schedstat") for task in tasks.iterdir()) if tasks.is_dir() else 0.0
    return Waits(_queued(Path("/proc/thread-self/schedstat")), process, _stolen())


def _queued(path: Path) -> float:
    """Return the seconds in the queue for a processor: the second of the three numbers in such a file."""
    try:
        return int(path.read_text().split()[1]) * 1e-9
    except (OSError, IndexError, ValueError):  # another system, a kernel without these counters, or a thread that ended
        return 0.0


def _stolen() -> float:
    try:
        with open("/proc/stat") as file:
            return int(file.readline().split()[8]) / _TICKS
    except (OSError, IndexError, ValueError):
        return 0.0
