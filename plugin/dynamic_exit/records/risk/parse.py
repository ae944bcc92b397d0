"""Risks as users write them: a name, a matrix of costs or its file, or a function in a file."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...core.user_code import load_function
from ...errors import TuningError, first_line, nearest
from .base import Accuracy, Risk
from .builtin import Agreement, BalancedAccuracy, ExpectedLoss, TopK

_NAMED: dict[str, Callable[[], Risk]] = {
    "accuracy": Accuracy,
    "agreement": Agreement,
    "balanced_accuracy": BalancedAccuracy,
    "top_k": TopK,
}
#: The risks that have a name.
RISK_NAMES = tuple(_NAMED)
_TABLES = (".csv", ".npy")
_TOP = re.compile(r"top_([1-9]\d*)")

#: A risk as a recipe or a command gives it.
Given = str | Sequence[Sequence[float]]


def is_file(given: str) -> bool:
    """Return whether a text that names a risk names a file, or a function in one."""
    return given.endswith(_TABLES) or ":" in given


def known_risk(given: str) -> str | None:
    """Return why a text names no risk, as the end of a sentence; None if it does. Files are not looked at."""
    if given in _NAMED or _TOP.fullmatch(given) or is_file(given):
        return None
    return (
        f"names no risk: '{given}' is neither a file of costs (.csv, .npy) nor file.py:function; "
        f"{nearest(given, RISK_NAMES)}"
    )


def parse_risk(given: Given, classes: int, folder: str | Path = ".") -> Risk:
    """Return a risk.

    Args:
        given: ``accuracy``, ``agreement``, ``balanced_accuracy``, ``top_k`` (k = 5) or ``top_3`` and the like; a matrix
            of costs in 0..1 with one row for each true class and one column for each answer, or its ``.csv`` or
            ``.npy`` file; or ``file.py:function``, which takes two int64 arrays of equal length, true classes and
            answers, and returns their losses in 0..1.
        classes: Number of classes.
        folder: What paths are relative to.

    Raises:
        TuningError: There is no such risk, or its losses are malformed.
        RecipeError: The function cannot be loaded.
    """
    if not isinstance(given, str):
        return ExpectedLoss("cost_matrix", _checked(given, classes, "the cost matrix"))
    if given in _NAMED:
        return _NAMED[given]()
    top = _TOP.fullmatch(given)
    if top:
        depth = int(top[1])
        return TopK(depth) if depth > 1 else Accuracy()
    if given.endswith(_TABLES):
        return ExpectedLoss(given, _checked(_read(Path(folder, given)), classes, f"'{given}'"))
    reason = known_risk(given)
    if reason:
        raise TuningError(f"`risk` {reason}")
    return ExpectedLoss(given, _tabulated(given, classes, folder))


def _read(path: Path) -> np.ndarray:
    try:
        table = np.load(path, allow_pickle=False) if path.suffix == ".npy" else np.loadtxt(path, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        reason = first_line(error).rstrip(".")
        raise TuningError(
            f"'{path}' is no table of costs: {reason}; write one row of numbers for each true class"
        ) from error
    return np.asarray(table)


def _tabulated(reference: str, classes: int, folder: str | Path) -> np.ndarray:
    file, _, name = reference.rpartition(":")
    function = load_function(f"{Path(folder, file)}:{name}" if file.endswith(".py") else reference)
    truth, answer = (each.ravel() for each in np.indices((classes, classes)))
    try:
        losses = np.asarray(function(truth, answer))
    except Exception as error:  # user code may raise anything
        raise TuningError(
            f"'{reference}' failed: {first_line(error)}; it gets two int64 arrays, true classes and answers"
        ) from error
    if losses.shape != truth.shape:
        raise TuningError(
            f"'{reference}' returned an array of shape {losses.shape} for {len(truth)} pairs of true class and answer; "
            "return one loss for each pair"
        )
    return _checked(losses.reshape(classes, classes), classes, f"'{reference}'")


def _checked(given: Any, classes: int, what: str) -> np.ndarray:
    try:
        loss = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TuningError(f"{what} must hold numbers; got {first_line(error)}") from error
    if loss.shape != (classes, classes):
        raise TuningError(
            f"{what} is of shape {loss.shape}; {classes} classes need {classes} rows (true classes) and {classes} "
            "columns (answers)"
        )
    bad = ~((loss >= 0) & (loss <= 1))  # NaN is neither
    if bad.any():
        truth, answer = np.argwhere(bad)[0]
        raise TuningError(
            f"{what} gives the answer {answer} for class {truth} a loss of {loss[truth, answer]:g}; losses lie in 0..1"
        )
    return loss
