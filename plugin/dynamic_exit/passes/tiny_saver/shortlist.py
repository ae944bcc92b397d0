"""Which candidates are worth running at all, known from their cost before they are run."""

import time
from collections.abc import Callable

from ...core import distributed
from .select import SoloResult


class Shortlist:
    """Says of each candidate, in turn from cheap to dear, why it need not be run.

    Only bounds that hold for certain are used. A candidate as dear as the backbone saves nothing where it answers. With
    one saver everybody pays for it, so that one that alone costs as much as the best pair found so far with the
    backbone cannot be better. In a chain a dear saver is paid for by few, so that there its cost alone says no more.

    Args:
        backbone_cost: Of the backbone, per sample.
        unit: ``macs`` or ``seconds``.
        single: Whether one saver is looked for, not a chain.
        time_limit: Seconds after which no further candidate is tried; None for no limit.
        clock: Gives seconds.
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
        self._best: SoloResult | None = None

    def too_expensive(self, cost: float) -> str | None:
        """Return why a candidate of this cost can never pay; None where it may."""
        if cost < self.backbone_cost:
            return None
        return f"it costs {cost_text(cost, self.unit)}, the backbone {cost_text(self.backbone_cost, self.unit)}"

    def cannot_win(self, cost: float) -> str | None:
        """Return why a candidate of this cost cannot be better than what was found so far; None where it may."""
        ratio = cost / self.backbone_cost
        if not self.single or self._best is None or ratio < self._best.cost_ratio:
            return None
        pair = f"{self._best.stage} and the backbone together {self._best.cost_ratio:.3f}"
        return f"too dear: it alone costs {ratio:.3f} of the backbone, {pair}"

    def record(self, alone: SoloResult) -> None:
        """Take note of a candidate that was run."""
        if self._best is None or alone.cost_ratio < self._best.cost_ratio:
            self._best = alone

    def out_of_time(self) -> str | None:
        """Return why no further candidate is to be tried; None where there is time left."""
        if self.time_limit is None or distributed.run_on_main(lambda: self._clock() - self._started < self.time_limit):
            return None
        return f"not tried, the time limit of {self.time_limit:g} s was over"


def cost_text(cost: float, unit: str) -> str:
    """Return a cost per sample as a text; `unit` is ``macs`` or ``seconds``."""
    return f"{cost / 1e6:.4g} M multiply-adds" if unit == "macs" else f"{cost * 1e6:.4g} µs"
