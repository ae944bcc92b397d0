"""Drift detectors of River and alibi-detect, beside which monitor.py sets the monitor; the project depends on neither.

Each sees a stream of scores, by which the monitor ranks answers (a later exit is harder, and less confidence), or of
errors where labels are known, and says whether it has ever fired. Options are the library's defaults, but for the
expected run time that alibi-detect asks for.
"""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

#: Answers between false alarms that alibi-detect's detectors are set to; more need as many more bootstraps.
RUN_TIME, BOOTSTRAPS, WINDOW = 2_000, 4_000, 100


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
    kind = getattr(_imported(f"river.{module}", "river"), name)

    def make(reference: np.ndarray, seed: int) -> Drift:
        detector = kind(seed=seed) if name == "KSWIN" else kind()

        def update(value: float) -> bool:
            detector.update(value)
            return bool(detector.drift_detected)

        return Drift(update, errors)

    return make


def alibi(name: str) -> Callable[[np.ndarray, int], Drift]:
    """Return what makes a detector of alibi-detect, set once: on the reference of the first stream."""
    kind, made = getattr(_imported("alibi_detect.cd", "alibi-detect"), f"{name}DriftOnline"), list[Any]()

    def make(reference: np.ndarray, seed: int) -> Drift:
        if not made:
            np.random.seed(seed)  # noqa: NPY002  the library draws from it
            options = {"window_sizes": [WINDOW]} if name == "CVM" else {"window_size": WINDOW, "backend": "pytorch"}
            shown = reference.astype(np.float32)
            shown = shown if name == "CVM" else shown[:, None]
            made.append(kind(shown, ert=RUN_TIME, n_bootstraps=BOOTSTRAPS, verbose=False, **options))
        made[0].reset_state()
        return Drift(lambda value: bool(made[0].predict(np.array([value], np.float32))["data"]["is_drift"]))

    return make


#: Detectors by name; each is imported once it is asked for.
OTHERS: dict[str, Callable[[], Callable[[np.ndarray, int], Drift]]] = {
    "river ADWIN": lambda: river("ADWIN"),
    "river KSWIN": lambda: river("KSWIN"),
    "river PageHinkley": lambda: river("PageHinkley"),
    "river DDM, labels": lambda: river("DDM", "drift.binary", errors=True),
    "alibi CVM": lambda: alibi("CVM"),
    "alibi MMD": lambda: alibi("MMD"),
    "alibi LSDD": lambda: alibi("LSDD"),
}


def _imported(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SystemExit(
            f"{package} cannot be imported ({error}): install it into an environment of this benchmark, or name other "
            "detectors with --others"
        ) from error
