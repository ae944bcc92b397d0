"""Outcomes of a chain: what every stage in use answers, given the stages before it, and what exiting there costs."""

import functools
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import numpy as np

from ..chain.evidence import Evidence
from ..chain.evidence.base import Approximation
from ..records import Records
from ..records.stage_table import Stages

#: Samples that many chains are looked at on, and some chains.
FEW_ROWS = 3_000
SOME_ROWS = 12_000
# so much evidence is kept, in bytes
_CACHED_BYTES = 1 << 29
_PLACE = np.iinfo(np.uint32)

#: What moves of thresholds led to: thresholds, correct answers and cost.
Moves = dict[Hashable, tuple[np.ndarray, float, float]]


@dataclass(frozen=True)
class Ranking:
    """The samples from the least confident on. N samples.

    Attributes:
        order: int64 (N,); the samples.
        confidence: float32 (N,), rising; NaN where there is none, at the end.
    """

    order: np.ndarray
    confidence: np.ndarray

    @classmethod
    def of(cls, confidence: np.ndarray) -> "Ranking":
        """Rank confidences float32 (N,) of 0 or more, equals as they stand: twice as fast as argsort."""
        # such numbers rise with their bits, and the sign of NaN says nothing; below them stands the sample
        keys = np.abs(confidence).view(np.int32).astype(np.int64)
        keys <<= _PLACE.bits
        keys |= np.arange(len(keys))
        keys.sort()
        return cls(keys & int(_PLACE.max), (keys >> _PLACE.bits).astype(np.int32).view(np.float32))


@dataclass(frozen=True)
class ChainOutcomes:
    """Outcomes of a fixed set of stages; only their thresholds are open. N samples, m stages before the final.

    With the set fixed, neither confidence nor answer of a stage depends on any threshold, fused or not.

    Attributes:
        stages: m indices into the records' stages, rising.
        confidence: float32 (m, N); of the evidence at each stage.
        correct: (m + 1, N); what the answer at each stage is worth, see `Records.worth`: whether it is the true class,
            if the risk is accuracy; the final's last.
        cost: float64 (m + 1,); what a sample that exits there costs.
        moves: What the search knows of moves: many starts lead to the same thresholds.
        rank: Gives the ranking of a stage in use, if chains share it.
        rankings: Those that were asked for, by the stage's place.
    """

    stages: Stages
    confidence: np.ndarray
    correct: np.ndarray
    cost: np.ndarray
    moves: Moves = field(default_factory=dict, repr=False)
    rank: Callable[[int], Ranking] | None = field(default=None, repr=False)
    rankings: dict[int, Ranking] = field(default_factory=dict, repr=False)

    @property
    def samples(self) -> int:
        """N."""
        return self.correct.shape[1]

    def ranking(self, place: int) -> Ranking:
        """Return the samples in the order of a stage's confidence."""
        if place not in self.rankings:
            self.rankings[place] = self.rank(place) if self.rank else Ranking.of(self.confidence[place])
        return self.rankings[place]

    def bins(self, place: int, grid: np.ndarray) -> np.ndarray:
        """Return how many of some rising thresholds each sample is above at a stage: int64 (N,)."""
        ranking = self.ranking(place)
        order, staying = ranking.order, np.searchsorted(ranking.confidence, grid, side="right")
        bins, ends = np.empty(self.samples, dtype=np.int64), np.empty(len(grid) + 2, dtype=np.int64)
        ends[0], ends[1:-1], ends[-1] = 0, staying, self.samples
        bins[order] = np.repeat(np.arange(len(grid) + 1), ends[1:] - ends[:-1])
        return bins

    def take(self, rows: np.ndarray) -> "ChainOutcomes":
        """Return the outcomes on some samples: integers (n,) or a mask (N,)."""
        return ChainOutcomes(self.stages, self.confidence[:, rows], self.correct[:, rows], self.cost)


class OutcomeCache:
    """Computes outcomes of chains from records and caches the evidence that chains share.

    Args:
        records: The records to search on.
        fuse: How answers are combined.
        memory: Bytes of evidence to cache, more or less; the last answers stay in any case.
    """

    def __init__(self, records: Records, fuse: Evidence | str, memory: int = _CACHED_BYTES) -> None:
        self.records, self.recorded = records, Evidence.of(fuse).on(records)
        self.separable = self.recorded.rule.separable
        self.table = records.stage_table
        self.final = self.table.final
        self.is_counted = records.is_counted
        self.baseline_correct = float(records.reference_worth.sum())
        self._answers: OrderedDict[Stages, tuple[np.ndarray, np.ndarray]] = OrderedDict()
        self._max_answers = memory // (len(records) * (np.float32().nbytes + np.bool_().nbytes))
        self._rankings: OrderedDict[Stages, Ranking] = OrderedDict()
        self._max_rankings = memory // (len(records) * (np.float32().nbytes + np.int64().nbytes))
        self._moves: defaultdict[Stages, Moves] = defaultdict(dict)

    def chain(self, stages: Stages) -> ChainOutcomes:
        """Return the outcomes of a chain.

        Args:
            stages: Indices into the records' stages, rising, without the final.
        """
        whole = (*stages, self.final)
        seen = [(s,) if self.separable else whole[: i + 1] for i, s in enumerate(whole)]
        answers = [self.answer(each) for each in seen]
        confidence = np.empty((len(stages), len(self.records)), dtype=np.float32)
        for place in range(len(stages)):
            confidence[place] = answers[place][0]
        correct = np.stack([correct for _, correct in answers])
        cost, moves = self.table.exit_cost(stages), self._moves[stages]
        return ChainOutcomes(stages, confidence, correct, cost, moves, lambda place: self.ranking(seen[place]))

    def least_correct(self) -> float:
        """Return the correct answers of the least accurate stage."""
        return min(float(self.answer((stage,))[1].sum()) for stage in range(self.final + 1))

    def answer(self, seen: Stages) -> tuple[np.ndarray, np.ndarray]:
        """Return how sure the evidence of some stages together is, float32 (N,), and what its answer is worth (N,)."""
        if seen in self._answers:
            self._answers.move_to_end(seen)
            return self._answers[seen]
        answer = self._answers[seen] = self._fused(seen)
        if len(self._answers) > max(1, self._max_answers):
            self._answers.popitem(last=False)
        return answer

    def ranking(self, seen: Stages) -> Ranking:
        """Return the samples in the order of how sure the evidence of some stages together is."""
        if seen not in self._rankings:
            self._rankings[seen] = Ranking.of(self.answer(seen)[0])
        self._rankings.move_to_end(seen)
        if len(self._rankings) > max(1, self._max_rankings):
            self._rankings.popitem(last=False)
        return self._rankings[seen]

    def _fused(self, seen: Stages) -> tuple[np.ndarray, np.ndarray]:
        # confidence and correctness of the evidence that these stages give together
        classes, confidence = self.recorded.search(seen)
        return confidence, self.recorded.worth(seen, classes)


class ApproximateOutcomes(OutcomeCache):
    """Outcomes on some of the samples, many times faster where evidence is fused: for judging very many chains.

    What the rule of the evidence cannot approximate is computed in full on these samples.

    Args:
        records: The records to search on.
        fuse: How answers are combined.
        rows: integers (n,); the samples.
    """

    def __init__(self, records: Records, fuse: Evidence | str, rows: np.ndarray) -> None:
        super().__init__(records.take(rows), fuse)

    @functools.cached_property
    def _approximation(self) -> Approximation | None:
        # it tells what the true class is worth, and nothing else
        return self.recorded.approximate() if self.records.risk.by_truth else None

    def _fused(self, seen: Stages) -> tuple[np.ndarray, np.ndarray]:
        if len(seen) == 1 or self._approximation is None:
            return super()._fused(seen)
        confidence, worth = self._approximation(seen)
        by_labels = self.records.posterior is None
        return confidence, worth * self._worth_of_truth if by_labels and not self.is_counted else worth

    @functools.cached_property
    def _worth_of_truth(self) -> np.ndarray:
        return self.records.worth(self.records.truth)
