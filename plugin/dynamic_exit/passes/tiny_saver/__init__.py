"""Tiny savers: small independent models that answer first (TinySaver, arXiv 2403.17726).

`select_savers` chooses them out of candidates, `Shortlist` tells which candidates need not be run, `fine_tune` trains a
candidate to be a saver.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .config import FINE_TUNED_SUFFIX, FineTuneStanza, TinySaverStanza

if TYPE_CHECKING:
    from .fine_tuning import TeacherSamples, fine_tune
    from .select import Candidate, SoloResult, chain_ratio, evaluate_alone, select_savers, skipped_candidate
    from .shortlist import Shortlist

__all__ = [
    "FINE_TUNED_SUFFIX",
    "Candidate",
    "FineTuneStanza",
    "Shortlist",
    "SoloResult",
    "TeacherSamples",
    "TinySaverStanza",
    "chain_ratio",
    "evaluate_alone",
    "fine_tune",
    "select_savers",
    "skipped_candidate",
]

_MODULES = {
    "Candidate": ".select",
    "Shortlist": ".shortlist",
    "SoloResult": ".select",
    "TeacherSamples": ".fine_tuning",
    "chain_ratio": ".select",
    "evaluate_alone": ".select",
    "fine_tune": ".fine_tuning",
    "select_savers": ".select",
    "skipped_candidate": ".select",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_MODULES[name], __name__), name)
    return value
