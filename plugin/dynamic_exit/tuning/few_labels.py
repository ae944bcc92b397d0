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
    labels = int((np.asarray(records.labels) >= 0).sum())
    able = (
        _MIN_SAMPLES <= labels <= _MAX_SAMPLES
        and len(records.stages) > 1
        and options.risk.needs_labels
        and records.reference is None
        and all(goal.max_class_drop is None for goal in goals)
    )
    probable, exact = replace(options, posterior=True, unlabelled=None), replace(options, posterior=False)
    posterior = able and compare(records, goals, exact, probable).likely >= 0
    if able:
        further = "" if options.unlabelled is None else f" and {len(options.unlabelled)} samples without labels"
        logger.info(f"searched: {'what all stages say' + further if posterior else 'labels'}")
    return replace(options, posterior=posterior)
