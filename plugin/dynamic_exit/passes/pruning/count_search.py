"""The smallest number that is enough, where each answer costs a pruned model."""

from dataclasses import dataclass

# every so many steps the bracket is halved, whatever the values say
_HALVED = 4


@dataclass
class CountSearch:
    """Regula falsi over integers, after Illinois: a value that falls with the number, and is to be at most zero.

    Attributes:
        below: A number that is not enough.
        enough: A larger one that is.
        above: The value at `below`, or a guess of it; more than zero, and halved where it has stood for long.
        under: The value at `enough`; at most zero, and halved alike.
    """

    below: int
    enough: int
    above: float
    under: float
    _steps: int = 0
    _last: bool | None = None

    def next(self) -> int | None:
        """Return the number to try next; None once `enough` is the smallest that is."""
        if self.enough - self.below <= 1:
            return None
        self._steps += 1
        width = self.enough - self.below
        share = 0.5 if self._steps % _HALVED == 0 else self.above / (self.above - self.under)
        return min(max(self.below + round(width * share), self.below + 1), self.enough - 1)

    def tell(self, number: int, value: float) -> bool:
        """Take the value at what `next` returned; return whether that number is enough."""
        if value <= 0:
            self.enough, self.under = number, value
            self.above /= 2 if self._last is True else 1
        else:
            self.below, self.above = number, value
            self.under /= 2 if self._last is False else 1
        self._last = value <= 0
        return self._last
