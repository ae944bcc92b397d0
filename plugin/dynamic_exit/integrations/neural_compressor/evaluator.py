"""What an evaluation function says of a model, checked before anything is built on it."""

import logging
import math
from collections.abc import Callable, Iterable
from numbers import Real
from typing import Any

import numpy as np
from torch import Tensor, nn

from ...chain.goal_limits import explain_excessive_drop
from ...errors import DynamicExitError, PassError, TuningError, first_line
from ...modeling.base import DynamicExitClassifier
from ...runtime.model import DynamicExitModel

logger = logging.getLogger(__name__)


def check_tolerable_loss(value: Any) -> None:
    """Check the largest relative loss of the score that is asked for.

    Raises:
        PassError: It is no number in 0..1, or one that cannot be meant.
    """
    number = isinstance(value, Real) and not isinstance(value, bool)
    doubt = explain_excessive_drop(value, "%") if number else None
    if doubt:
        raise PassError(f"`tolerable_loss` {doubt}")
    if not number or not value >= 0:
        raise PassError(f"`tolerable_loss` must be a number in 0..1; got {value!r}")


class _Logits(nn.Module):
    """A dynamic model whose answer is the logits alone."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.training = False

    def forward(self, *inputs, **named) -> Tensor:
        return self.model(*inputs, **named).logits


class Evaluator:
    """Scores the compressed model against the given one.

    Args:
        eval_fn: As Neural Compressor takes it: model in, score out, larger is better.
        eval_args: Its further positional arguments.
        tolerable_loss: Largest relative loss of the score, in 0..1; None for any.
    """

    def __init__(self, eval_fn: Callable, eval_args: Any, tolerable_loss: float | None):
        self.eval_fn, self.limit = eval_fn, tolerable_loss
        self.arguments = eval_args if isinstance(eval_args, Iterable) else ()
        self.baseline = math.nan
        self._plain = True

    def score_baseline(self, model: nn.Module) -> None:
        """Score the given model.

        Raises:
            PassError: The function fails, gives no finite number, or gives a baseline that is not above zero.
        """

        def look(module, inputs, answer):
            self._plain = isinstance(answer, Tensor)

        hook = model.register_forward_hook(look)
        try:
            self.baseline = self._score(model)
        finally:
            hook.remove()
        if self.baseline <= 0:
            raise PassError(f"`eval_fn` gives the model itself {self.baseline:g}; it must be above 0, larger is better")

    def check(self, made: nn.Module | DynamicExitClassifier) -> None:
        """Score the compressed model.

        Raises:
            PassError: The function fails or gives no finite number.
            TuningError: The model loses more than is tolerable.
        """
        score = self.score(made)
        loss = (self.baseline - score) / self.baseline
        logger.info(f"eval_fn: {self.baseline:g} before, {score:g} after")
        if self.limit is not None and loss > self.limit:
            raise TuningError(
                f"the compressed model scores {score:g} and the given one {self.baseline:g}, a loss of {loss:.2%}; "
                f"`tolerable_loss` is {self.limit:.2%}; allow more or compress less"
            )

    def score(self, made: nn.Module | DynamicExitClassifier) -> float:
        """Return a compressed model's score.

        Raises:
            PassError: The function fails or gives no finite number.
        """
        dynamic = isinstance(made, DynamicExitModel | DynamicExitClassifier)
        return self._score(_Logits(made) if dynamic and self._plain else made)

    def _score(self, model: nn.Module) -> float:
        try:
            value = self.eval_fn(model, *self.arguments)
        except DynamicExitError:
            raise
        except Exception as error:  # the user's own code
            raise PassError(f"`eval_fn` failed with {type(error).__name__}: {first_line(error)}") from error
        if isinstance(value, Tensor | np.ndarray) and value.ndim == 0:
            value = value.item()
        if isinstance(value, bool) or not isinstance(value, Real):
            raise PassError(f"`eval_fn` must return one number, larger is better; it returned a {type(value).__name__}")
        if not math.isfinite(value):
            raise PassError(f"`eval_fn` must return a finite number; it returned {value}")
        return float(value)
