"""A chain for the search: what every stage in use answers, given the stages before it, and what leaving there costs."""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from ..records import Records

# what is added up for so many samples fits the processor's cache
_CHUNK_ROWS = 1 << 13
# classes that a sample's dense evidence tells apart, the true one among them
_LOCAL_CLASSES = 16
_DENSE_NUMBERS = 1 << 22
# where the true class and a lower one are equally likely, the lower is the answer
_TIE = np.float32(1 + 2**-20)


@dataclass(frozen=True)
class ChainOutcomes:
    """A fixed set of stages in use; only their thresholds are open. N samples, m stages before the final.

    With the set fixed, neither confidence nor answer of a stage depends on any threshold, fused or not.

    Attributes:
        stages: m places in the records' chain, rising.
        confidence: float32 (m, N); of each stage's evidence.
        right: bool (m + 1, N); whether each stage's evidence gives the right class; the final's last.
        cost: float64 (m + 1,); what a sample that leaves there pays.
    """

    stages: tuple[int, ...]
    confidence: np.ndarray
    correct: np.ndarray
    cost: np.ndarray

    @property
    def samples(self) -> int:
        """N."""
        return self.correct.shape[1]

    def take(self, rows: np.ndarray) -> "ChainOutcomes":
        """Return the chain on some samples: integers (n,) or a mask (N,)."""
        return ChainOutcomes(self.stages, self.confidence[:, rows], self.correct[:, rows], self.cost)


def subsample(samples: int, most: int, seed: int) -> np.ndarray:
    """Return which samples to look at where all are too many: rising int64, at most `most`, all if they are fewer."""
    if samples <= most:
        return np.arange(samples)
    return np.sort(np.random.default_rng(seed).choice(samples, most, replace=False))


class OutcomeCache:
    """Makes chains out of records, and remembers the evidence that chains share.

    Args:
        records: The records to search on.
        fuse: ``none`` or ``mean``.
        memory: Bytes of evidence to remember.
    """

    def __init__(self, records: Records, fuse: str, memory: int = 1 << 29) -> None:
        self.records = records
        self.fuse = fuse
        self.truth = records.truth
        self.final = len(records.stages) - 1
        self.baseline_correct = int((records.topk_classes[-1, :, 0] == self.truth).sum())
        self._answers: OrderedDict[tuple[int, ...], tuple[np.ndarray, np.ndarray]] = OrderedDict()
        self._most = max(64, memory // (5 * len(records)))

    def chain(self, stages: tuple[int, ...]) -> ChainOutcomes:
        """Return the chain of some stages.

        Args:
            stages: Places in the records' chain, rising, without the final.

        Returns:
            The chain.
        """
        whole = (*stages, self.final)
        answers = [self._answer(whole[: i + 1] if self.fuse == "mean" else (s,)) for i, s in enumerate(whole)]
        own, prefix = self.records.own_cost[list(whole)], self.records.prefix_cost[list(whole)]
        confidence = np.empty((len(stages), len(self.records)), dtype=np.float32)
        for place in range(len(stages)):
            confidence[place] = answers[place][0]
        return ChainOutcomes(stages, confidence, np.stack([correct for _, correct in answers]), np.cumsum(own) + prefix)

    def correct_range(self) -> tuple[int, int]:
        """Right answers of the least accurate stage and of the backbone, over these samples."""
        corrects = [int((self.records.topk_classes[s, :, 0] == self.truth).sum()) for s in range(self.final)]
        return min([*corrects, self.baseline_correct]), self.baseline_correct

    def _answer(self, seen: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        # confidence and rightness of the evidence that these stages give together
        if seen in self._answers:
            self._answers.move_to_end(seen)
            return self._answers[seen]
        answer = self._answers[seen] = self._fused(seen)
        if len(self._answers) > self._most:
            self._answers.popitem(last=False)
        return answer

    def _fused(self, seen: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        classes, confidence = fused_answers(self.records, seen)
        return confidence, classes == self.truth


class ApproximateOutcomes(OutcomeCache):
    """Chains on some samples, many times faster where evidence is fused: what to judge very many chains with.

    Each sample's evidence is kept for the classes alone that all stages together find most likely in it. Another class
    is seen only where one stage by itself is surest of it.

    Args:
        records: The records to search on.
        fuse: ``none`` or ``mean``.
        rows: integers (n,); the samples.
    """

    def __init__(self, records: Records, fuse: str, rows: np.ndarray) -> None:
        super().__init__(records.take(rows), fuse)
        self._dense: np.ndarray | None = None
        self._other: np.ndarray | None = None

    def _fused(self, seen: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        if len(seen) == 1:
            return super()._fused(seen)
        if self._dense is None:
            self._dense, self._other = local_evidence(self.records)
        total, other = self._dense[seen[0]], self._other[seen[0]]
        total = total + self._dense[seen[1]]
        for stage in seen[2:]:
            total += self._dense[stage]
        for stage in seen[1:]:
            other = np.maximum(other, self._other[stage])
        best = np.maximum(total.max(axis=0), other)
        return best / np.float32(len(seen)), total[0] >= best


def local_evidence(records: Records) -> tuple[np.ndarray, np.ndarray]:
    """Return every stage's probabilities for each sample's likely classes, the same classes for all stages.

    Args:
        records: The records.

    Returns:
        float32 (S, L, N): the true class first, then the others that all stages together find most likely; a class that
        wins a tie against the true one is raised by a millionth. float32 (S, N): the largest probability of a class
        that is not among them.
    """
    stages, samples = len(records.stages), len(records)
    width = 1 + max(int(records.topk_classes.max()), int(records.truth.max()))
    local = min(_LOCAL_CLASSES, width)
    dense = np.zeros((stages, local, samples), dtype=np.float32)
    other = np.zeros((stages, samples), dtype=np.float32)
    step = max(1, _DENSE_NUMBERS // width)
    for start in range(0, samples, step):
        rows = slice(start, start + step)
        truth = records.truth[rows]
        everyone = np.arange(len(truth))
        weight = np.zeros((len(truth), width), dtype=np.float32)
        for stage in range(stages):
            weight[everyone[:, None], records.topk_classes[stage, rows]] += records.topk_probabilities[stage, rows]
        weight[everyone, truth] = np.inf
        likely = np.argpartition(-weight, local - 1, axis=1)[:, :local]
        place = np.full((len(truth), width), -1, dtype=np.int8)
        place[everyone[:, None], likely] = np.arange(local)
        # the true class first
        first = place[everyone, truth]
        place[everyone, likely[:, 0]], place[everyone, truth] = first, 0
        for stage in range(stages):
            classes, shares = records.topk_classes[stage, rows], records.topk_probabilities[stage, rows]
            found = place[everyone[:, None], classes]
            other[stage, rows] = np.where(found < 0, shares, np.float32(0)).max(axis=1)
            row, kept = np.nonzero(found >= 0)
            share = shares[row, kept] * np.where(classes[row, kept] < truth[row], _TIE, np.float32(1))
            dense[stage, found[row, kept], start + row] = share
    return dense, other


def fused_answers(records: Records, stages: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return class and confidence of the mean of some stages' probabilities, from the kept classes alone.

    Args:
        records: The records.
        stages: Places in the records' chain; one alone gives its own answer.

    Returns:
        int32 (N,) classes, the lowest among equals, and float32 (N,) confidences.
    """
    if len(stages) == 1:
        return np.asarray(records.topk_classes[stages[0], :, 0]), np.asarray(
            records.topk_probabilities[stages[0], :, 0]
        )
    samples = len(records)
    classes, confidence = np.empty(samples, dtype=np.int32), np.empty(samples, dtype=np.float32)
    for start in range(0, samples, _CHUNK_ROWS):
        rows = slice(start, start + _CHUNK_ROWS)
        known = np.ascontiguousarray(records.topk_classes[stages[0], rows].T)
        total = np.ascontiguousarray(records.topk_probabilities[stages[0], rows].T)
        for stage in stages[1:]:
            new = np.ascontiguousarray(records.topk_classes[stage, rows].T)
            share = np.ascontiguousarray(records.topk_probabilities[stage, rows].T)
            rest = share.copy()
            for one, its_share, left in zip(new, share, rest, strict=True):
                same = known == one
                # added in chain order, as at serving, so that float32 rounds alike
                total += same * its_share
                left[same.any(axis=0)] = 0
            known, total = np.concatenate([known, new]), np.concatenate([total, rest])
        best = total.max(axis=0)
        classes[rows] = np.where(total == best, known, np.iinfo(np.int32).max).min(axis=0)
        confidence[rows] = best / np.float32(len(stages))
    return classes, confidence
