"""Cheap statistics of inputs, one number a sample: what may move though the answers do not show it.

A statistic is one function of a `Signal` or of `Tokens` under a decorator. Files name it as its function is named, so
a function whose result changes takes a new name.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from ..core.registry import Registry
from ..errors import MonitorError

#: What an input is taken for: numbers whose neighbours belong together, or indices of tokens.
Kind = Literal["signal", "tokens"]
#: Which tokens of `input_ids` are looked at.
MASK = "attention_mask"
# of a sample at most so many channels, numbers and tokens are looked at, so that large inputs cost no more
_CHANNELS, _NUMBERS, _TOKENS = 8, 512, 512
# samples that are computed on together: what they need fits into a processor's own memory
_TOGETHER = 64
# in place of what is not finite, so that it can be ranked and written
_MOST = 1e30


@dataclass(frozen=True)
class Signal:
    """Numbers of samples, such as those of pictures or series.

    Attributes:
        numbers: float32 (n, channels, rows, width).
    """

    numbers: np.ndarray

    @cached_property
    def steps(self) -> np.ndarray:
        """Differences of neighbours along the rows."""
        return np.diff(self.numbers)

    @cached_property
    def channel_steps(self) -> np.ndarray:
        """The same of the differences between channels that follow each other."""
        return np.diff(np.diff(self.numbers, axis=1))

    @cached_property
    def spread(self) -> np.ndarray:
        """Standard deviation, float32 (n,)."""
        return self.numbers.reshape(len(self.numbers), -1).std(axis=1)

    @cached_property
    def step(self) -> np.ndarray:
        """Mean size of a step, float32 (n,)."""
        return _mean_size(self.steps)


@dataclass(frozen=True)
class Tokens:
    """Texts.

    Attributes:
        ids: int64 (n, T).
        mask: bool (n, T): which of them belong to the text.
        common: int64 (K,) ascending: the ids of most tokens of calibration samples.
    """

    ids: np.ndarray
    mask: np.ndarray
    common: np.ndarray

    @cached_property
    def count(self) -> np.ndarray:
        """Number of tokens, int64 (n,)."""
        return np.count_nonzero(self.mask, axis=1)


@dataclass(frozen=True)
class Statistic:
    """A statistic of one kind of inputs.

    Attributes:
        kind: Of the inputs.
        compute: Returns a number for each sample, (n,).
        least: Channels and width that a signal must have.
    """

    kind: Kind
    compute: Callable[[Any], np.ndarray]
    least: tuple[int, int] = (1, 1)


STATISTICS: Registry[Statistic] = Registry("statistic of inputs", MonitorError)


def of_signal(channels: int = 1, width: int = 1) -> Callable[[Callable[[Signal], np.ndarray]], Any]:
    """Register a function as a statistic of signals that have at least so many channels, and numbers in a row."""
    return lambda compute: _add(compute, Statistic("signal", compute, (channels, width)))


def of_tokens(compute: Callable[[Tokens], np.ndarray]) -> Callable[[Tokens], np.ndarray]:
    """Register a function as a statistic of tokens."""
    _add(compute, Statistic("tokens", compute))
    return compute


def _add(compute: Callable[[Any], np.ndarray], statistic: Statistic) -> Callable[[Any], np.ndarray]:
    STATISTICS.add(compute.__name__, statistic)
    return compute


@of_signal()
def mean(signal: Signal) -> np.ndarray:
    """How large numbers are: brightness."""
    return signal.numbers.reshape(len(signal.numbers), -1).mean(axis=1)


@of_signal()
def spread(signal: Signal) -> np.ndarray:
    """How far they lie apart: contrast."""
    return signal.spread


@of_signal(width=2)
def roughness(signal: Signal) -> np.ndarray:
    """How far neighbours lie apart, of the spread."""
    return _ratio(signal.step, signal.spread)


@of_signal(width=3)
def fineness(signal: Signal) -> np.ndarray:
    """How much steps differ from those before, of their size: about 0 in slopes, more in noise, less after a blur."""
    return _ratio(_mean_size(np.diff(signal.steps)), signal.step)


@of_signal(channels=2, width=3)
def channel_fineness(signal: Signal) -> np.ndarray:
    """The same of differences between channels: what noise adds, and what compressing colors takes away."""
    return _ratio(_mean_size(np.diff(signal.channel_steps)), _mean_size(signal.channel_steps))


@of_tokens
def length(tokens: Tokens) -> np.ndarray:
    """Number of tokens."""
    return tokens.count


@of_tokens
def rare_tokens(tokens: Tokens) -> np.ndarray:
    """Share of tokens that are rare in calibration samples."""
    if not len(tokens.common):
        return np.zeros(len(tokens.ids))
    places = np.minimum(np.searchsorted(tokens.common, tokens.ids), len(tokens.common) - 1)
    rare = (tokens.common[places] != tokens.ids) & tokens.mask
    return np.count_nonzero(rare, axis=1) / np.maximum(tokens.count, 1)


def _mean_size(values: np.ndarray) -> np.ndarray:
    """Return the mean of absolute values of each sample, (n,); 0 where there are none."""
    count = len(values)
    return np.abs(values).reshape(count, -1).mean(axis=1) if values.size else np.zeros(count)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return above / below, (n,); 0 where nothing varies."""
    return np.divide(above, below, out=np.zeros(len(above)), where=below != 0)


def kind_of(values: np.ndarray) -> Kind | None:
    """Return what an input (n, ...) is taken for; None: nothing is watched of it."""
    if values.dtype.kind == "i" and values.ndim == 2:
        return "tokens"
    return "signal" if values.dtype.kind in "iuf" and values.ndim >= 2 else None


def looked_at(values: Any, kind: Kind) -> np.ndarray:
    """Return a copy of what is looked at.

    Args:
        values: An array or a tensor (n, ...); (n, T) of whole numbers for tokens.
        kind: What it is taken for.

    Returns:
        int64 (n, T): the first tokens; or float32 (n, channels, rows, width): whole rows that lie evenly.
    """
    if kind == "tokens":
        return _copy(values[:, :_TOKENS], np.int64)
    *between, width = values.shape[1:]
    if len(between) == 2 and width <= 4 < between[0]:  # channels come last, as in image files
        return looked_at(values.swapaxes(1, 3), kind)
    count, channels = len(values), between[0] if between else 1
    values = values.reshape(count, channels, -1, width)
    each = -(-channels // _CHANNELS)
    of_channel, rows = max(3, _NUMBERS // -(-channels // each)), values.shape[2]
    first, apart = max(0, (width - of_channel) // 2), max(1, -(-rows // max(1, of_channel // max(1, width))))
    return _copy(values[:, ::each, (rows - 1) % apart // 2 :: apart, first : first + of_channel], np.float32)


def _copy(values: Any, dtype: type) -> np.ndarray:
    """Return a copy in main memory: a caller may use its own again at once."""
    if hasattr(values, "detach"):
        tensor = values.detach().cpu()
        values = (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    return np.array(values, dtype=dtype, order="C")


def statistics_for(sample: np.ndarray, kind: Kind) -> list[str]:
    """Return the names of the statistics that can be computed of what is looked at."""
    found = {name: each for name, each in STATISTICS.items().items() if each.kind == kind}
    if kind == "tokens":
        return list(found)
    channels, width = sample.shape[1], sample.shape[3]
    return [name for name, each in found.items() if each.least[0] <= channels and each.least[1] <= width]


def compute(
    wanted: Mapping[str, tuple[str, ...]], inputs: Mapping[str, np.ndarray], common: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Compute statistics of samples.

    Args:
        wanted: Names of statistics by input, one at least.
        inputs: What is `looked_at` of each input, and of the mask if there is one.
        common: Of `Tokens`, by input.

    Returns:
        float64 (n, statistics), finite, in the order of `wanted`.
    """
    count = len(next(iter(inputs.values())))
    found = np.empty((count, sum(map(len, wanted.values()))))
    with np.errstate(all="ignore"):  # numbers that are not finite are ranked as the largest
        for start in range(0, count, _TOGETHER):
            rows = slice(start, start + _TOGETHER)
            part = {name: values[rows] for name, values in inputs.items()}
            found[rows] = np.column_stack([*_columns(wanted, part, common)])
    return np.nan_to_num(found, nan=_MOST, posinf=_MOST, neginf=-_MOST)


def _columns(
    wanted: Mapping[str, tuple[str, ...]], inputs: Mapping[str, np.ndarray], common: Mapping[str, np.ndarray]
) -> Iterator[np.ndarray]:
    for name, statistics in wanted.items():
        values = inputs[name]
        view: Signal | Tokens
        if values.ndim == 2:
            mask = inputs.get(MASK)
            view = Tokens(values, np.ones(values.shape, bool) if mask is None else mask != 0, common[name])
        else:
            view = Signal(values)
        for statistic in statistics:
            yield STATISTICS.find(statistic).compute(view)
