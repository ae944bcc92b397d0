"""Inputs that hold NaN or infinity: refused, or answered with NaN, and never by a stage that takes them for a sample.

Some operators make a number of NaN, such as a rectifier, so that a stage may be sure of an input that is none.
"""

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np

from ..errors import ArgumentError, InputError
from .file_runner import Answer, Runner

#: ``refuse`` raises an error, ``report`` answers NaN by the last stage.
NonFinite = Literal["refuse", "report"]
DEFAULT: NonFinite = "refuse"


def check_choice(choice: str) -> None:
    """Check what shall be done with inputs that are not finite.

    Raises:
        ArgumentError: It is neither ``refuse`` nor ``report``.
    """
    if choice not in get_args(NonFinite):
        raise ArgumentError(f"non_finite must be 'refuse' or 'report'; got {choice!r}")


def refuse_non_finite(feeds: Mapping[str, np.ndarray]) -> None:
    """Refuse inputs that hold NaN or infinity.

    Args:
        feeds: Inputs by name, each (N, ...).

    Raises:
        InputError: One does.
    """
    for name, array in feeds.items():
        if not np.isfinite(array).all():
            row = int(_wrong_rows(array).argmax())
            raise InputError(
                f"input '{name}' holds NaN or infinity, first in row {row}; mend it, or load the model with "
                "non_finite='report', which answers such rows with NaN"
            )


def answer(runner: Runner, feeds: Mapping[str, np.ndarray], thresholds: np.ndarray, choice: NonFinite) -> Answer:
    """Classify a batch, as `Runner.run`, where inputs may hold NaN or infinity.

    Args:
        runner: The model.
        feeds: Inputs by name, each (N, ...).
        thresholds: float32 (S,).
        choice: What is done where an input or an answer is not finite. With ``report`` logits and confidence of such a
            row are NaN, and its exit index is that of the last stage.

    Raises:
        InputError: With ``refuse``, an input holds NaN or infinity, or a row is answered with NaN.
    """
    if choice == "refuse":
        refuse_non_finite(feeds)
        answered = runner.run(feeds, thresholds)
        unsure = np.isnan(answered[2])
        if unsure.any():
            raise InputError(
                f"row {int(unsure.argmax())} is answered with NaN, though its inputs are finite: they are beyond what "
                "the model can compute; check how they are scaled, or load the model with non_finite='report'"
            )
        return answered
    wrong = [_wrong_rows(array) for array in feeds.values() if not np.isfinite(array).all()]
    rows = np.logical_or.reduce(wrong) if wrong else None
    if rows is not None:
        feeds = {name: _blank(array, rows) for name, array in feeds.items()}
    answered = runner.run(feeds, thresholds)
    unsure = np.isnan(answered[2]) if rows is None else rows | np.isnan(answered[2])
    if not unsure.any():
        return answered
    logits, exit_index, confidence = (np.array(each) for each in answered)
    logits[unsure], confidence[unsure], exit_index[unsure] = np.nan, np.nan, len(runner.stages)
    return logits, exit_index, confidence


def _wrong_rows(array: np.ndarray) -> np.ndarray:
    """Return which rows hold NaN or infinity, bool (N,)."""
    wrong: np.ndarray = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
    return wrong


def _blank(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return a copy in which such rows are 0 wherever they may be fractions."""
    if array.dtype.kind != "f":
        return array
    copied = array.copy()
    copied[rows] = 0
    return copied
