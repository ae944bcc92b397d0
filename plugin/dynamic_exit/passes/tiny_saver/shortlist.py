"""Which candidates are worth running, as far as their cost tells before they are run."""

import time
from collections.abc import Callable

from ...core import distributed
from .select import SoloResult


class Shortlist:
    """Tells of each candidate, from the cheapest to the most expensive, why it need not be run.

    Only certain bounds are used. A candidate as expensive as the backbone saves nothing. A single saver runs on every
    sample, so one that alone costs as much as the best pair of saver and backbone so far cannot win. In a chain, an
    expensive saver may run on few samples, so that its cost alone excludes nothing more.

    Args:
        backbone_cost: Of the backbone, per sample.
        unit: ``macs`` or ``seconds``.
        single: Whether one saver is wanted rather than a chain.
        time_limit: Seconds after which no further candidate is tried; None means no limit.
        clock: Returns seconds.

    Attributes:
        deadline: End of the time limit, of `time.monotonic`; None means none.
    """

    def __init__(
        self,
        backbone_cost: float,
        unit: str,
        *,
        single: bool = False,
        time_limit: float | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self.backbone_cost, self.unit, self.single = backbone_cost, unit, single
        self.time_limit, self._clock, self._started = time_limit, clock, clock()
        self.deadline = None if time_limit is None else time.monotonic() + time_limit
        self._best: SoloResult | None = None

    def too_expensive(self, cost: float) -> str | None:
        """Return why a candidate of this cost can never save anything; None if it may."""
        if cost < self.backbone_cost:
            return None
        return f"it costs {cost_text(cost, self.unit)}, the backbone {cost_text(self.backbone_cost, self.unit)}"

    def cannot_win(self, cost: float) -> str | None:
        """Return why a candidate of this cost cannot be better than the best so far; None if it may."""
        ratio = cost / self.backbone_cost
        if not self.single or self._best is None or ratio < self._best.cost_ratio:
            return None
        pair = f"{self._best.stage} and the backbone together {self._best.cost_ratio:.3f}"
        return f"too expensive: it alone costs {ratio:.3f} of the backbone, {pair}"

    def record(self, result: SoloResult) -> None:
        """Record the result of a candidate that was run."""
        if self._best is None or result.cost_ratio < self._best.cost_ratio:
            self._best = result

    def out_of_time(self) -> str | None:
        """Return why no further candidate is to be tried; None if there is time left."""
        limit = self.time_limit
        if limit is None or distributed.run_on_main(lambda: self._clock() - self._started < limit):
            return None
        return f"not tried, the time limit of {limit:g} s was over"


def cost_text(cost: float, unit: str) -> str:
    """Format a cost per sample; `unit` is ``macs`` or ``seconds``."""
    return f"{cost / 1e6:.4g} M multiply-adds" if unit == "macs" else f"{cost * 1e6:.4g} µs"
