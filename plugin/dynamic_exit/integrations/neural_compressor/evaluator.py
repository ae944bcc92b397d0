"""Scoring of models with the user's evaluation function, whose results are checked before they are used."""

import logging
import math
from collections.abc import Callable, Iterable
from numbers import Real
from typing import Any

import numpy as np
from torch import Tensor, nn

from ...errors import DynamicExitError, PassError, TuningError, first_line
from ...modeling.base import DynamicExitClassifier
from ...points.goal_limits import explain_excessive_drop
from ...runtime.model import DynamicExitModel

logger = logging.getLogger(__name__)


def check_tolerable_loss(value: Any) -> None:
    """Check a relative loss of the score that a user asks for.

    Raises:
        PassError: It is not a number in 0..1, or so large that a percentage was probably meant.
    """
    number = isinstance(value, Real) and not isinstance(value, bool)
    doubt = explain_excessive_drop(value, "%") if number else None
    if doubt:
        raise PassError(f"`tolerable_loss` {doubt}")
    if not number or not value >= 0:
        raise PassError(f"`tolerable_loss` must be a number in 0..1; got {value!r}")


class _LogitsOnly(nn.Module):
    """A dynamic model that returns logits (N, C) instead of an output object."""

    def __init__(self, model: nn.Module | DynamicExitClassifier):
        super().__init__()
        self.model = model
        self.training = False

    def forward(self, *inputs: Any, **keywords: Any) -> Tensor:
        logits: Tensor = self.model(*inputs, **keywords).logits
        return logits


class Evaluator:
    """Scores the compressed model and compares it with the given one.

    Args:
        eval_fn: As in Neural Compressor: takes a model and returns a score; larger is better.
        eval_args: Further positional arguments of the function; ignored unless iterable.
        tolerable_loss: Largest relative loss of the score, in 0..1; None for any.

    Attributes:
        baseline: Score of the given model; NaN before `score_baseline`.
    """

    def __init__(self, eval_fn: Callable[..., Any], eval_args: Any, tolerable_loss: float | None):
        self.eval_fn, self.tolerable_loss = eval_fn, tolerable_loss
        self.arguments = eval_args if isinstance(eval_args, Iterable) else ()
        self.baseline = math.nan
        self._returns_tensor = True

    def score_baseline(self, model: nn.Module) -> None:
        """Score the given model.

        Raises:
            PassError: The function fails, or its result is not a finite number above 0.
        """

        def inspect_output(module: nn.Module, inputs: Any, output: Any) -> None:
            self._returns_tensor = isinstance(output, Tensor)

        hook = model.register_forward_hook(inspect_output)
        try:
            self.baseline = self._score(model)
        finally:
            hook.remove()
        if self.baseline <= 0:
            raise PassError(f"`eval_fn` gives the model itself {self.baseline:g}; it must be above 0, larger is better")

    def check(self, model: nn.Module | DynamicExitClassifier) -> None:
        """Score the compressed model and compare the loss with `tolerable_loss`.

        Raises:
            PassError: The function fails, or its result is not a finite number.
            TuningError: The loss is larger than tolerable.
        """
        score = self.score(model)
        loss = self.loss(score)
        logger.info(f"eval_fn: {self.baseline:g} before, {score:g} after")
        if self.tolerable_loss is not None and loss > self.tolerable_loss:
            raise TuningError(
                f"the compressed model scores {score:g} and the given one {self.baseline:g}, a loss of {loss:.2%}; "
                f"`tolerable_loss` is {self.tolerable_loss:.2%}; allow more or compress less"
            )

    def loss(self, score: float) -> float:
        """Return the loss of a score, relative to the given model's."""
        return (self.baseline - score) / self.baseline

    def score(self, model: nn.Module | DynamicExitClassifier) -> float:
        """Return the score of a compressed model; if the given model returns tensors, so does this one.

        Raises:
            PassError: The function fails, or its result is not a finite number.
        """
        dynamic = isinstance(model, DynamicExitModel | DynamicExitClassifier)
        return self._score(_LogitsOnly(model) if dynamic and self._returns_tensor else model)

    def _score(self, model: nn.Module | DynamicExitClassifier) -> float:
        try:
            value = self.eval_fn(model, *self.arguments)
        except DynamicExitError:
            raise
        except Exception as error:  # user code may raise anything
            raise PassError(f"`eval_fn` failed with {type(error).__name__}: {first_line(error)}") from error
        if isinstance(value, Tensor | np.ndarray) and value.ndim == 0:
            value = value.item()
        if isinstance(value, bool) or not isinstance(value, Real):
            raise PassError(f"`eval_fn` must return one number, larger is better; it returned a {type(value).__name__}")
        if not math.isfinite(value):
            raise PassError(f"`eval_fn` must return a finite number; it returned {value}")
        return float(value)
