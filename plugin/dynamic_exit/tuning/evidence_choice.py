"""Which evidence to use where the user leaves it open, judged on samples that the search has not seen."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..chain.evidence import AUTO, Evidence
from ..errors import TuningError
from ..points.goal import Goal
from ..records import Records
from ..search.options import SearchOptions
from .comparison import compare

logger = logging.getLogger(__name__)

# what `auto` chooses from: the first, unless another is cheaper; then the same with a learned confidence
_PAIRS = (Evidence("mean", "top1"), Evidence("product", "margin"))
_LEARNED, _UNLEARNED = "learned", "margin"
# a gate of fewer fits noise, and of fewer than the second number nothing tells whether it pays
_MIN_LEARNED, _MIN_LEARNED_BY_AUTO = 200, 1_000
# combined answers of all stages are rarely the backbone's own to the last sample
_ALONE = Evidence("none", "top1")
_MIN_SAMPLES = 100
# what saves less is not worth powers, or gates, that must be learned
_LEAST_SAVING = 0.01
# of gates, those of one saver tell whether they pay
_SAVERS, _SAVERS_LEARNED = 2, 1


def settle_evidence(records: Records, goals: Sequence[Goal], options: SearchOptions) -> SearchOptions:
    """Choose the evidence where the options leave it open, and learn the powers of stages.

    Every candidate is searched on all folds but one and compared on that one, at equal accuracy.

    Args:
        records: The samples to search on.
        goals: What to reach.
        options: Of the search; rule or confidence may be ``auto``.

    Returns:
        The options with evidence that needs nothing more.

    Raises:
        TuningError: A rule was asked for that looks at more classes than the records keep.
    """
    wanted = options.fuse
    if unlearned_warnings(records, wanted):
        wanted = replace(wanted, confidence=_UNLEARNED)
    first, *others = _candidates(wanted, _PAIRS if options.risk.needs_labels else (_ALONE, *_PAIRS))
    missing = _missing_classes(records, first)
    if missing:
        raise TuningError(missing)
    best = _cheapest(records, goals, replace(options, fuse=first), others)
    if wanted.confidence == AUTO and len(records) >= _MIN_LEARNED_BY_AUTO:
        best = _cheapest(records, goals, best, [replace(best.fuse, confidence=_LEARNED)])
    if AUTO in (wanted.rule, wanted.confidence):
        logger.info(f"evidence: {best.fuse}")
    return best.learned_on(records)


def unlearned_warnings(records: Records, wanted: Evidence) -> list[str]:
    """Return why a learned confidence that was asked for is not learned, at most one sentence."""
    if wanted.confidence != _LEARNED or len(records) >= _MIN_LEARNED:
        return []
    return [
        f"confidence '{_LEARNED}' needs {_MIN_LEARNED} samples to search on, there are {len(records)}; "
        f"'{_UNLEARNED}' is used in its place"
    ]


def _cheapest(
    records: Records, goals: Sequence[Goal], best: SearchOptions, others: Sequence[Evidence]
) -> SearchOptions:
    for other in others:
        missing = _missing_classes(records, other)
        if missing:
            logger.info(f"{other} is left out: {missing}")
        elif len(records) >= _MIN_SAMPLES and _is_cheaper(records, goals, replace(best, fuse=other), best):
            best = replace(best, fuse=other)
    return best


def _candidates(wanted: Evidence, pairs: Sequence[Evidence]) -> list[Evidence]:
    if AUTO not in (wanted.rule, wanted.confidence):
        return [wanted]
    fits = [each for each in pairs if wanted.rule in (AUTO, each.rule) and wanted.confidence in (AUTO, each.confidence)]
    if fits:
        return fits
    # a pair that `auto` does not try by itself
    rules = [each.rule for each in pairs] if wanted.rule == AUTO else [wanted.rule]
    return [Evidence(rule, "top1" if wanted.confidence == AUTO else wanted.confidence) for rule in rules]


def _is_cheaper(records: Records, goals: Sequence[Goal], options: SearchOptions, than: SearchOptions) -> bool:
    learned = options.fuse.confidence == _LEARNED
    extra = compare(records, goals, options, than, _SAVERS_LEARNED if learned else _SAVERS)
    # gates have many more numbers than powers: their gain must also stand out from how folds differ
    clear = not learned or extra.by_fold.mean() + extra.by_fold.std() / np.sqrt(len(extra.by_fold)) < 0
    return clear and extra.likely < -_LEAST_SAVING


def _missing_classes(records: Records, evidence: Evidence) -> str | None:
    # why records cannot tell what a file would answer; None if they can
    wanted = max(evidence.evidence_rule.classes or 1, evidence.confidence_rule.classes)
    classes = 1 + max(int(records.topk_classes.max()), int(records.labels.max()))
    if records.kept >= min(wanted, classes):
        return None
    return (
        f"'{evidence}' looks at the {wanted} most likely classes of a stage, the records keep {records.kept}; "
        "record more, or combine by mean and top1"
    )
