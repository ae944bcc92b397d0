"""The mean of several stages' probabilities on the kept classes of records, vectorized for the search."""

import numpy as np

from ...records import Records

# sums over so many samples fit the processor's cache
_CHUNK_ROWS = 1 << 13
# classes that are told apart in the dense evidence of a sample, the true one included
_LOCAL_CLASSES = 16
_DENSE_NUMBERS = 1 << 22
# where the true class and a lower one are equally likely, the lower one is the answer
_TIE = np.float32(1 + 2**-20)


def fused_answers(records: Records, stages: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return class and confidence of the mean of the probabilities of some stages, from the kept classes alone.

    Args:
        records: The records.
        stages: Indices of the stages; a single one gives its own answer.

    Returns:
        int32 (N,) classes, the lowest among equals, and float32 (N,) confidences.
    """
    if len(stages) == 1:
        first = stages[0]
        return np.asarray(records.topk_classes[first, :, 0]), np.asarray(records.topk_probabilities[first, :, 0])
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
                # added in chain order, as at inference, so that float32 rounds alike
                total += same * its_share
                left[same.any(axis=0)] = 0
            known, total = np.concatenate([known, new]), np.concatenate([total, rest])
        best = total.max(axis=0)
        classes[rows] = np.where(total == best, known, np.iinfo(np.int32).max).min(axis=0)
        confidence[rows] = best / np.float32(len(stages))
    return classes, confidence


def local_evidence(records: Records) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of all stages for the likely classes of each sample, the same classes for all stages.

    Args:
        records: The records.

    Returns:
        float32 (S, L, N): the true class first, then those that all stages together find most likely; classes that win
        a tie against the true one are raised by a millionth. float32 (S, N): the largest probability of a class that
        is not among them.
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
