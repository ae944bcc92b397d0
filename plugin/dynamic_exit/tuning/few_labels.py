"""Whether probabilities stand in for labels where labels are few, judged on labels held out."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..points.goal import Goal
from ..records import Records
from ..search.options import SearchOptions
from .comparison import compare

logger = logging.getLogger(__name__)

# with more labels noise hides little; of fewer, too few can be held out to see whether it pays
_MAX_SAMPLES = 20_000
_MIN_SAMPLES = 400


def settle_labels(records: Records, goals: Sequence[Goal], options: SearchOptions) -> SearchOptions:
    """Choose whether the search asks labels or a posterior, where the options leave it open.

    A posterior is searched unless labels are cheaper at equal accuracy: both are searched on all folds but one, and
    compared by the labels of that one. What is won is mostly that drops vary less, which so few labels cannot show.

    Args:
        records: The samples to search on.
        goals: What to reach.
        options: Of the search.

    Returns:
        The options with the choice made. Labels are asked where goals limit classes, whose losses are counted, or the
        risk needs none.
    """
    if options.posterior is not None:
        return options
    able = not _obstacle(records, goals, options)
    probable, exact = replace(options, posterior=True, unlabelled=None), replace(options, posterior=False)
    posterior = able and compare(records, goals, exact, probable).likely >= 0
    if able:
        further = "" if options.unlabelled is None else f" and {len(options.unlabelled)} samples without labels"
        logger.info(f"searched: {'what all stages say' + further if posterior else 'labels'}")
    return replace(options, posterior=posterior)


def unused_warnings(
    records: Records, goals: Sequence[Goal], options: SearchOptions, settled: SearchOptions
) -> list[str]:
    """Return why samples without labels that were given take no part, at most one sentence.

    Args:
        records: The samples to search on.
        goals: What to reach.
        options: Of the search, as given.
        settled: What `settle_labels` made of them.
    """
    if options.unlabelled is None or settled.posterior:
        return []
    reason = _obstacle(records, goals, options) or "on labels that are held out, labels alone are cheaper"
    return [f"the {len(options.unlabelled)} samples without labels take no part in the search: {reason}"]


def _obstacle(records: Records, goals: Sequence[Goal], options: SearchOptions) -> str:
    """Return why probabilities cannot stand in for labels; empty if they can."""
    labels = int((np.asarray(records.labels) >= 0).sum())
    if not options.risk.needs_labels:
        return f"the risk {options.risk.name} needs no labels"
    if any(goal.max_class_drop is not None for goal in goals):
        return "what classes or groups lose is counted on labels"
    if records.reference is not None:
        return "drops are relative to another model"
    if len(records.stages) < 2:
        return "there is one stage alone"
    if labels < _MIN_SAMPLES:
        return f"{_MIN_SAMPLES} samples with labels are needed to learn from, {labels} are searched"
    if labels > _MAX_SAMPLES:
        return f"with {labels} labels, of which {_MAX_SAMPLES} are many, there is little noise to lower"
    return ""
