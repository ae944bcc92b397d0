"""Drift detectors of River, beside which monitor.py sets the monitor; the project does not depend on it.

Each sees a stream of scores, by which the monitor ranks answers (a later exit is harder, and less confidence), or of
errors where labels are known, and says whether it has ever fired. Options are River's defaults.
"""

import importlib
from collections.abc import Callable

import numpy as np


class Drift:
    """A detector that takes one value at a time.

    Args:
        update: Takes a value and says whether the stream has moved.
        errors: Whether it sees errors where labels are known, in place of scores.
    """

    def __init__(self, update: Callable[[float], bool], errors: bool = False):
        self._update, self._errors = update, errors

    def look(self, scores: np.ndarray, errors: np.ndarray) -> bool:
        """Take the next answers; whether it fires at one of them."""
        return any([self._update(value) for value in (errors if self._errors else scores).tolist()])


def river(name: str, module: str = "drift", errors: bool = False) -> Callable[[np.ndarray, int], Drift]:
    """Return what makes a detector of River."""
    try:
        kind = getattr(importlib.import_module(f"river.{module}"), name)
    except ImportError as error:
        raise SystemExit(
            f"river cannot be imported ({error}): install it beside this benchmark, or leave out --others"
        ) from error

    def make(reference: np.ndarray, seed: int) -> Drift:
        detector = kind(seed=seed) if name == "KSWIN" else kind()

        def update(value: float) -> bool:
            detector.update(value)
            return bool(detector.drift_detected)

        return Drift(update, errors)

    return make


#: Detectors by name; each is imported once it is asked for.
OTHERS: dict[str, Callable[[], Callable[[np.ndarray, int], Drift]]] = {
    "river ADWIN": lambda: river("ADWIN"),
    "river KSWIN": lambda: river("KSWIN"),
    "river PageHinkley": lambda: river("PageHinkley"),
    "river DDM, labels": lambda: river("DDM", "drift.binary", errors=True),
}
