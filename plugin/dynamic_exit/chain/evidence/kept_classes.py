"""Sums over several stages on the kept classes of records, vectorized for the search."""

from collections.abc import Callable, Sequence

import numpy as np

from ...records import Records
from .base import Answers, Approximation, RecordedEvidence

#: Selects samples.
Rows = slice | np.ndarray
#: What a stage adds for each kept class: float32 (n, k), from its index and the samples.
Shares = Callable[[int, Rows], np.ndarray]
#: Maps sums float32 (classes, n) of so many stages to evidence of the same shape.
Link = Callable[[np.ndarray, int], np.ndarray]

# sums over so many samples fit the processor's cache
_CHUNK_ROWS = 1 << 13
# classes that are told apart in the dense evidence of a sample, the true one included
_LOCAL_CLASSES = 16
_DENSE_NUMBERS = 1 << 22
# where the true class and a lower one are equally likely, the lower one is the answer
_TIE = np.float32(1 + 2**-20)
# in place of a class that stands elsewhere
_NO_CLASS = np.iinfo(np.int32).max


def summed_answers(
    recorded: RecordedEvidence, shares: Shares, link: Link, stages: Sequence[int], rows: np.ndarray | None = None
) -> Answers:
    """Return what the sums of what some stages add for each class answer.

    Args:
        recorded: The records, and how sure evidence is.
        shares: What a stage adds.
        link: From sums to evidence.
        stages: Indices of the stages.
        rows: int64 (n,); the samples, all if None.

    Returns:
        The classes, the lowest among equals, and confidences.
    """
    samples, sure = len(recorded.records) if rows is None else len(rows), recorded.confidences[stages[-1]]
    classes, confidence = np.empty(samples, dtype=np.int64), np.empty(samples, dtype=np.float32)
    for start in range(0, samples, _CHUNK_ROWS):
        here = slice(start, min(start + _CHUNK_ROWS, samples))
        known, total = _sums(recorded.records, shares, stages, here if rows is None else rows[here])
        best = total.max(axis=0)
        classes[here] = np.where(total == best, known, _NO_CLASS).min(axis=0)
        confidence[here] = sure.judge(link(total, len(stages)), classes[here], axis=0)
    return classes, confidence


def _sums(records: Records, shares: Shares, stages: Sequence[int], rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    # the kept classes of all stages and their sums, (classes, n); a class of several stages stands with its sum at the
    # first, and nameless with 0 at the others
    share = shares(stages[0], rows)
    known = np.ascontiguousarray(records.topk_classes[stages[0], rows, : share.shape[1]].T)
    total = np.ascontiguousarray(share.T)
    for stage in stages[1:]:
        share = np.ascontiguousarray(shares(stage, rows).T)
        new = np.array(records.topk_classes[stage, rows, : len(share)].T, order="C")
        rest = share.copy()
        for one, its_share, left in zip(new, share, rest, strict=True):
            same = known == one
            # added in chain order, as at inference, so that float32 rounds alike
            total += same * its_share
            repeated = same.any(axis=0)
            left[repeated] = 0
            one[repeated] = _NO_CLASS
        known, total = np.concatenate([known, new]), np.concatenate([total, rest])
    return known, total


def approximate_sums(recorded: RecordedEvidence, shares: Shares, link: Link) -> Approximation:
    """Return sums over the classes that all stages together find most likely, the true one included."""
    records = recorded.records
    dense, others, names = local_shares(records, shares)
    # of a class that is not among them, a posterior says next to nothing
    chances = None if records.posterior is None else np.stack([*map(records.worth, names[:-1]), np.zeros(len(records))])

    def answer(seen: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        total, other = dense[seen[0]] + dense[seen[1]], others[seen[0]]
        for stage in seen[2:]:
            total += dense[stage]
        for stage in seen[1:]:
            other = np.maximum(other, others[stage])
        total, sure = np.concatenate([total, other[None]]), recorded.confidences[seen[-1]]
        answers = (total.argmax(axis=0), np.arange(len(other))) if sure.by_class or chances is not None else (0,)
        worth = total[0] >= total.max(axis=0) if chances is None else chances[answers]
        return sure.judge(link(total, len(seen)), names[answers], axis=0), worth

    return answer


def local_shares(records: Records, shares: Shares) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what all stages add for the likely classes of each sample, the same classes for all stages.

    Args:
        records: The records.
        shares: What a stage adds.

    Returns:
        float32 (S, L, N): the true class first, then those that all stages together find most likely; classes that win
        a tie against the true one are raised by a millionth. float32 (S, N): the most that a stage adds for a class
        that is not among them. int32 (L + 1, N): which classes they are, the last row of no class.
    """
    stages, samples = len(records.stages), len(records)
    width = 1 + max(int(records.topk_classes.max()), int(records.truth.max()))
    local = min(_LOCAL_CLASSES, width)
    dense = np.zeros((stages, local, samples), dtype=np.float32)
    other = np.zeros((stages, samples), dtype=np.float32)
    names = np.full((local + 1, samples), _NO_CLASS, dtype=np.int32)
    step = max(1, _DENSE_NUMBERS // width)
    for start in range(0, samples, step):
        rows = slice(start, min(start + step, samples))
        truth = records.truth[rows]
        everyone = np.arange(len(truth))
        added = [shares(stage, rows) for stage in range(stages)]
        kept = [records.topk_classes[stage, rows, : each.shape[1]] for stage, each in enumerate(added)]
        weight = np.zeros((len(truth), width), dtype=np.float32)
        for classes, share in zip(kept, added, strict=True):
            weight[everyone[:, None], classes] += share
        weight[everyone, truth] = np.inf
        likely = np.argpartition(-weight, local - 1, axis=1)[:, :local]
        place = np.full((len(truth), width), -1, dtype=np.int8)
        place[everyone[:, None], likely] = np.arange(local)
        # the true class first
        first = place[everyone, truth]
        place[everyone, likely[:, 0]], place[everyone, truth] = first, 0
        names[place[everyone[:, None], likely], start + everyone[:, None]] = likely
        for stage, (classes, share) in enumerate(zip(kept, added, strict=True)):
            found = place[everyone[:, None], classes]
            other[stage, rows] = np.where(found < 0, share, np.float32(0)).max(axis=1)
            row, column = np.nonzero(found >= 0)
            raised = share[row, column] * np.where(classes[row, column] < truth[row], _TIE, np.float32(1))
            dense[stage, found[row, column], start + row] = raised
    return dense, other, names
