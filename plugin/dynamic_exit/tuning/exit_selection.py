"""Whether exits pay off behind savers, judged on samples that the search has not seen."""

from collections.abc import Sequence

import numpy as np

from ..points.goal import Goal
from ..records import Records
from ..records.splits import FOLDS, folds
from ..search.options import SearchOptions
from .comparison import Way, extra_cost

# with more samples noise hides nothing that matters, and the search itself is right
_MAX_SAMPLES = 20_000
_MIN_SAMPLES = 100


def drop_unhelpful_exits(records: Records, goals: Sequence[Goal], options: SearchOptions) -> Records:
    """Return the records without exits, unless these pay off behind savers.

    Many stages fit the noise of few samples better than few do, so exits that only look cheaper get chosen. Both sets
    of stages are searched on all folds but one and compared on that one, at equal accuracy. Exits stay if they are
    cheaper by more than the standard error.

    Args:
        records: The samples to search on.
        goals: What to reach.
        options: Of the search.

    Returns:
        Records of all stages, or of savers and the final alone; all if there are no savers or no exits, or so many
        samples that noise does not matter.
    """
    table = records.stage_table
    if not table.savers or not table.exits or not _MIN_SAMPLES <= len(records) <= _MAX_SAMPLES:
        return records
    savers_only = records.select([records.stages[s] for s in table.savers])
    plain = options.quick()
    every = [*folds(len(records), options.seed)]
    extra = extra_cost(Way(records, plain), Way(savers_only, plain), goals, every).by_fold
    return records if extra.mean() + extra.std() / np.sqrt(FOLDS) < 0 else savers_only
