"""Which samples are searched, which test the guarantee, and which are reported on; and whether they can be tuned on."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..errors import RecordsError, TuningError
from .records import Records

#: Number of folds, each of which is held out in turn.
FOLDS = 5
# rounds of folds for so many samples or fewer, and for more than any: with fewer samples, a round of folds is noisier
# and another one cheaper
_ROUNDS = {5_000: 3, 20_000: 2}
_LEAST_ROUNDS = 1


def split(
    samples: int, search_fraction: float, guarantee: bool, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split samples into those for the search, for the test of the guarantee and for the report.

    Args:
        samples: Number of samples.
        search_fraction: The share for the search, in (0, 1).
        guarantee: Whether half of the others is for the test of a guarantee.
        seed: Decides which are which.

    Returns:
        Three rising int64 arrays of rows, disjoint; the second is empty without a guarantee.

    Raises:
        TuningError: A part would be empty.
    """
    if not 0 < search_fraction < 1:
        raise TuningError(f"the search fraction must be between 0 and 1; got {search_fraction:g}")
    order = np.random.default_rng(seed).permutation(samples)
    first = round(samples * search_fraction)
    second = first + ((samples - first) // 2 if guarantee else 0)
    searched, tested, reported = order[:first], order[first:second], order[second:]
    if not len(searched) or not len(reported) or (guarantee and not len(tested)):
        raise TuningError(f"{samples} samples are too few to search and to report on different ones; record more")
    return np.sort(searched), np.sort(tested), np.sort(reported)


class Parts(NamedTuple):
    """Records of the samples of a tuning.

    Attributes:
        searched: What is searched on.
        tested: What the guarantee is tested on; None without one.
        reported: What figures come from.
    """

    searched: Records
    tested: Records | None
    reported: Records


def part_records(
    records: Records, search_fraction: float, guarantee: bool, seed: int, report: Records | None = None
) -> Parts:
    """Split records for a tuning.

    Args:
        records: The records.
        search_fraction: The share for the search, in (0, 1).
        guarantee: Whether samples are needed for the test of a guarantee.
        seed: Decides which are which.
        report: Records of other samples that figures are to come from. `records` are then searched alone, or searched
            and tested on.

    Raises:
        RecordsError: The records of the report are of another chain.
        TuningError: A part would be empty.
    """
    if report is None:
        rows = split(len(records), search_fraction, guarantee, seed)
        searched, tested, reported = (records.take(each) if len(each) else None for each in rows)
        assert searched is not None and reported is not None, "split refuses empty parts"
        return Parts(searched, tested, reported)
    check_same_chain(records, report, "the records of the report")
    if not guarantee:
        return Parts(records, None, report)
    searched_rows, _, tested_rows = split(len(records), search_fraction, False, seed)
    return Parts(records.take(searched_rows), records.take(tested_rows), report)


def check_same_chain(records: Records, others: Records, what: str) -> None:
    """Raise `RecordsError` if other records, called `what`, are not of the same chain."""
    for key in ("stages", "cost_unit"):
        ours, theirs = getattr(records, key), getattr(others, key)
        if ours != theirs:
            raise RecordsError(
                f"{what} are of another chain: their {key} are {theirs}, not {ours}; record the same stages in the "
                "same unit"
            )


def folds(samples: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield which samples are searched and which are held out, bool (samples,) each, in several rounds of `FOLDS`."""
    for round_index in range(next((rounds for most, rounds in _ROUNDS.items() if samples <= most), _LEAST_ROUNDS)):
        fold = np.random.default_rng([seed, round_index]).permutation(samples) % FOLDS
        for out in range(FOLDS):
            yield fold != out, fold == out


def subsample(samples: int, most: int, seed: int) -> np.ndarray:
    """Return a random subset of samples: rising int64, at most ``most``, all of them if there are no more."""
    if samples <= most:
        return np.arange(samples)
    return np.sort(np.random.default_rng(seed).choice(samples, most, replace=False))


def check_tunable(records: Records) -> None:
    """Check that there is something to tune on.

    Args:
        records: The samples.

    Raises:
        TuningError: There is one sample, one class, or the same confidence everywhere.
    """
    if len(records) < 2:
        raise TuningError(f"{len(records)} sample is too few to tune on; record more")
    labels = np.asarray(records.labels)
    if records.labelled and (labels == labels[0]).all():
        raise TuningError(f"all {len(records)} samples are of class {labels[0]}; record samples of every class")
    confidence = records.topk_probabilities[:-1, :, 0]
    if len(confidence) and all((stage == confidence[0, 0]).all() for stage in confidence):
        raise TuningError(
            f"every stage is equally sure of every sample ({confidence[0, 0]:g}), so no threshold can part them; "
            "record the probabilities of trained stages"
        )
