"""What live inputs are compared with: statistics of the test samples' inputs."""

from collections.abc import Mapping
from typing import Annotated, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..core.mapped_arrays import take_rows
from .input_statistics import MASK, STATISTICS, Kind, compute, kind_of, looked_at, statistics_for
from .parts import check_parts, count_parts

Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, lt=2**31)]
# more samples make a reference no better, and would all have to be read
_SAMPLES = 10_000
# ids that make up this share of the tokens of calibration samples are common, and how many at most
_COMMON_SHARE, _COMMON = 0.95, 20_000
# inputs that come with tokens, and are no samples themselves
_BESIDE_TOKENS = (MASK, "token_type_ids", "position_ids")
# samples that are read at once
_READ = 256


class StatisticReference(BaseModel):
    """One statistic of the test samples.

    Attributes:
        name: Of the statistic.
        edges: Ascending; they part its values.
        counts: Number of samples in each part; one more than edges.
        mean: Of the samples.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    edges: tuple[Finite, ...]
    counts: tuple[Count, ...]
    mean: Finite

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_parts(self.edges, self.counts)
        if self.name not in STATISTICS:
            raise ValueError(f"the statistic '{self.name}' of inputs is unknown to this version")
        return self


class InputReference(BaseModel):
    """One input of the test samples.

    Attributes:
        name: The model's name for it.
        common: Ids of tokens that are common in calibration samples, ascending; empty for other inputs.
        statistics: Statistics of its samples.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    common: tuple[Annotated[int, Field(lt=2**62)], ...] = ()
    statistics: tuple[StatisticReference, ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [each.name for each in self.statistics]
        if not names or len({*names}) < len(names) or len({STATISTICS.find(name).kind for name in names}) > 1:
            raise ValueError("statistics of an input must be different ones for its kind")
        if any(a >= b for a, b in zip(self.common, self.common[1:], strict=False)):
            raise ValueError("common tokens must ascend")
        return self

    @property
    def kind(self) -> Kind:
        """What the input is taken for."""
        return STATISTICS.find(self.statistics[0].name).kind


def read_inputs(test: Mapping[str, np.ndarray], calibration: Mapping[str, np.ndarray]) -> tuple[InputReference, ...]:
    """Return the statistics of the inputs of test samples.

    Args:
        test: Inputs (N, ...) by the model's names.
        calibration: Those of other samples, which tell what tokens are common: by themselves, test samples would
            have fewer rare ones than live texts.
    """
    found_kinds = {name: kind_of(values) for name, values in test.items() if name not in _BESIDE_TOKENS}
    kinds: dict[str, Kind] = {name: kind for name, kind in found_kinds.items() if kind is not None}
    wanted = {name: tuple(statistics_for(looked_at(test[name][:1], kind), kind)) for name, kind in kinds.items()}
    if not wanted:
        return ()
    common = {
        name: _common_ids(calibration[name], calibration.get(MASK)) if kind == "tokens" else np.zeros(0, np.int64)
        for name, kind in kinds.items()
    }
    looks: dict[str, Kind] = {**kinds, MASK: "tokens"} if MASK in test else kinds
    rows = len(next(iter(test.values())))
    chosen = np.unique(np.linspace(0, rows - 1, min(rows, _SAMPLES)).astype(np.int64))
    found = []
    for start in range(0, len(chosen), _READ):
        block = chosen[start : start + _READ]
        inputs = {name: looked_at(take_rows(test[name], block), kind) for name, kind in looks.items()}
        found.append(compute(wanted, inputs, common))
    columns = iter(np.concatenate(found).T)
    return tuple(
        InputReference(
            name=name,
            common=tuple(common[name].tolist()),
            statistics=tuple(_count(statistic, next(columns)) for statistic in statistics),
        )
        for name, statistics in wanted.items()
    )


def _count(name: str, values: np.ndarray) -> StatisticReference:
    edges, counts = count_parts(values)
    return StatisticReference(name=name, edges=edges, counts=counts, mean=float(values.mean()))


def _common_ids(ids: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Return the fewest ids that make up most tokens, int64 (K,) ascending."""
    found, counts = np.unique(ids if mask is None else ids[mask != 0], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    needed = int(np.searchsorted(np.cumsum(counts[order]), _COMMON_SHARE * counts.sum())) + 1
    return np.sort(found[order[: min(needed, _COMMON)]].astype(np.int64))
