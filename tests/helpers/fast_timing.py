"""Timing in tests: how many rounds there are, how long they are, and of how many samples says nothing there."""

import contextlib
from collections.abc import Iterator

import pytest

from dynamic_exit.targets import measure, stage_costs


@contextlib.contextmanager
def fast_timing() -> Iterator[None]:
    """Measure for a moment only; eager torch would take all the time it is given."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dynamic_exit.cost.latency.ROUND_SECONDS", 0.0005)
        patch.setattr(stage_costs, "TIME_LIMIT", 0.05)
        # one call answers all of them, however long that takes: real networks need seconds for hundreds
        patch.setattr(measure, "_TIMED_SINGLES", 16)
        patch.setattr(measure, "_TIMED_IN_BATCHES", 64)
        yield
