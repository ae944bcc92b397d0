"""A sampler for Neural Compressor's `autotune` that minimizes cost at a tolerable loss of the score.

`autotune` keeps the trial with the highest score, whatever it costs, and stops at the first one that is good enough.
So it is told not the score of a trial but its merit: the lower the cost the better, provided that the score is good
enough. The evaluation function is called as often as thresholds need it, while static passes and training run once for
each config.
"""

import copy
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from neural_compressor.common.base_config import BaseConfig
from neural_compressor.common.base_tuning import ConfigSet
from neural_compressor.torch.quantization import quantize
from torch import Tensor, nn

from ...errors import DynamicExitError, PassError, TuningError, nearest
from ...graph import evaluation_mode
from ...points.goal_limits import LARGEST_DROP
from ...runtime.relative_cost import COSTS, RelativeCost
from .calibration import CalibrationCalls
from .configs import PassConfig
from .evaluator import Evaluator, check_tolerable_loss
from .plan import DYNAMIC_EXIT
from .threshold_search import ThresholdSearch, Trial

logger = logging.getLogger(__name__)

#: Savers are chosen for this many times the tolerable loss, as not every answer that differs from the model's is wrong.
SAVER_LOSS_FACTOR = 5.0


class ConfigurationOptimizer:
    """Finds the config, and the thresholds of its model, that cost least at a tolerable loss of the score.

    The dynamic models of all configs are kept to the end, as thresholds of any of them may turn out best.

    Args:
        tolerable_loss: Largest relative loss of the score, in 0..1.
        cost: ``macs`` (multiply-adds), or ``latency`` (seconds of every stage, timed against the given model).

    Attributes:
        trials: The outcome of each config, in the given order.

    Raises:
        PassError: A parameter is out of range.
    """

    def __init__(self, *, tolerable_loss: float = 0.01, cost: str = "macs"):
        check_tolerable_loss(tolerable_loss)
        if cost not in COSTS:
            raise PassError(f"`cost` is {cost!r}; {nearest(str(cost), COSTS)}")
        self.tolerable_loss, self.cost = tolerable_loss, cost
        self.trials: list[Trial] = []
        self._configs: list[BaseConfig] = []
        self._search: ThresholdSearch | None = None
        self._failure: DynamicExitError | None = None
        self._current = -1
        self._result: nn.Module | None = None

    @property
    def best(self) -> Trial | None:
        """The trial whose model is returned; None before the first score."""
        return self._search.best if self._search else None

    @property
    def evaluations(self) -> int:
        """How often the evaluation function was called, including the given model's score."""
        return sum(trial.evaluations for trial in self.trials) + (self._search is not None)

    def __call__(self, config_set: ConfigSet) -> "ConfigurationOptimizer":
        """Take the configs; `autotune` calls this.

        Raises:
            PassError: There is no config, one is given twice, or their costs cannot be compared.
        """
        given = config_set.config_list
        if not given:
            raise PassError("`config_set` is empty; give at least one config")
        for place, config in enumerate(given):
            if config in given[:place]:
                raise PassError(f"`config_set` holds one '{config.name}' twice; keep one")
        kinds = [_numerics(config) for config in given]
        if self.cost == "macs" and any(kind != kinds[0] for kind in kinds):
            raise PassError("`config_set` compares quantizations; their multiply-adds differ, set cost to 'latency'")
        config_set.config_list = [self._follow(config) for config in given]
        self.trials = [Trial(config) for config in given]
        self._configs = config_set.config_list
        self._search = self._failure = self._result = None
        self._current = -1
        return self

    def __iter__(self) -> Iterator[int]:
        """Yield the configs' indices in order; `autotune` asks for them.

        Raises:
            PassError: `autotune` was given another evaluation function.
        """
        if self._search is None:
            raise PassError("`eval_fn` is not this optimizer's; write eval_fn=optimizer.scoring(eval_fn)")
        for index in range(len(self._configs)):
            self._current = index
            yield index

    def scoring(self, eval_fn: Callable[..., Any]) -> Callable[..., float]:
        """Return the function that `autotune` takes as `eval_fn`.

        Args:
            eval_fn: Takes a model and returns a score, above 0 for the given model; larger is better.

        Raises:
            PassError: It is not callable.
        """
        if not callable(eval_fn):
            raise PassError(f"`eval_fn` must be a function of the model; got {type(eval_fn).__name__}")

        def merit(model: nn.Module, *arguments: Any) -> float:
            if not self._configs:
                raise PassError("the optimizer has no configs; give it to TuningConfig as `sampler`, too")
            if self._search is None:
                self._search = self._start(model, Evaluator(eval_fn, arguments, None))
                return self._search.evaluator.baseline
            return self._consider(self._search, model)

        return merit

    def search(
        self,
        model: nn.Module,
        config_set: Sequence[BaseConfig],
        eval_fn: Callable[..., Any],
        *,
        run_fn: Callable[..., Any] | None = None,
        example_inputs: Any = None,
    ) -> nn.Module:
        """Do without `autotune` what it does with this optimizer.

        Args:
            model: It does not change.
            config_set: The configs to try.
            eval_fn: As for `scoring`.
            run_fn: Calls the model that it is given on calibration batches.
            example_inputs: As for Neural Compressor's `quantize`.

        Returns:
            The best model; if none has a tolerable loss, the one with the smallest loss, with a warning.

        Raises:
            DynamicExitError: One sentence on what cannot be done and why.
        """
        configs = ConfigSet([*config_set])
        self(configs)
        score = self.scoring(eval_fn)
        score(copy.deepcopy(model))
        for index in self:
            config = configs[index]
            score(quantize(copy.deepcopy(model), config, run_fn=run_fn, example_inputs=example_inputs))
        if self._result is None:
            raise TuningError("no config of `config_set` can be made")
        return self._result

    def _start(self, model: nn.Module, evaluator: Evaluator) -> ThresholdSearch:
        """Score the given model, and look at its inputs."""
        seen: list[Any] = []

        def keep_first(_: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            if not seen:
                seen.extend((*inputs, *keywords.values()))

        hook = model.register_forward_pre_hook(keep_first, with_kwargs=True)
        try:
            with evaluation_mode(model):
                evaluator.score_baseline(model)
        finally:
            hook.remove()
        if not seen:
            raise PassError("`eval_fn` never called the model; let it call the model that it is given")
        if len(seen) > 1 or not isinstance(seen[0], Tensor):
            raise PassError("the optimizer takes models of one tensor in memory; for others run a recipe, with "
                            "`tuning.static_search` for several static choices")  # fmt: skip
        return ThresholdSearch(evaluator, RelativeCost(model, seen[0], self.cost), self.tolerable_loss)

    def _consider(self, search: ThresholdSearch, model: nn.Module) -> float:
        """Find the best point of the current config's model."""
        trial = self.trials[self._current]
        if self._failure is not None:
            trial.why, self._failure = f"left out: {self._failure}", None
        else:
            search.add(trial, model)
        logger.info(f"config {self._current + 1} of {len(self.trials)}, {trial.config.name}: {trial.why}")
        merit = trial.merit
        if self._current == len(self.trials) - 1:
            self._finish(search)
        # the refinement may improve a trial that `autotune` was told of before; only the order of merits matters to it
        return merit

    def _finish(self, search: ThresholdSearch) -> None:
        if search.best is None or search.best.loss is None:
            reason = next(trial.why for trial in self.trials)
            raise TuningError(f"no config of `config_set` can be made, the first is {reason}")
        # the model of a config of Neural Compressor's own is made again by `autotune`, without asking us
        if search.best.meets and isinstance(search.best.config, PassConfig):
            search.refine()
        self._result = search.best_model
        if not search.best.meets:
            warnings.warn(
                f"no config of `config_set` keeps the loss at or under {self.tolerable_loss:.2%}; the least that was "
                f"found is {search.best.loss:.2%}, and its model comes back; allow more or compress less",
                stacklevel=5,
            )

    def _follow(self, config: BaseConfig) -> BaseConfig:
        """Return a copy of a pass's config that reports its failure, and ends with the best model."""
        if not isinstance(config, PassConfig):
            return config
        kind = type(config)

        def apply(
            model: nn.Module, trial: PassConfig, calls: CalibrationCalls | None, example_inputs: Any
        ) -> nn.Module:
            if self._result is not None:
                return self._result  # at its end `autotune` makes the best config's model again
            try:
                return kind.apply(model, trial, calls, example_inputs)
            except DynamicExitError as error:
                self._failure = error
                return model

        followed = copy.deepcopy(config)
        if config.name == DYNAMIC_EXIT:
            # savers are chosen at the loss that is allowed here; thresholds then depend on the score
            loss = min(LARGEST_DROP, SAVER_LOSS_FACTOR * self.tolerable_loss)
            allowed = max(config.tuning["max_accuracy_drop"], loss)
            followed.tuning = {**config.tuning, "max_accuracy_drop": allowed}
        followed.override(apply)
        return followed


def _numerics(config: BaseConfig) -> Any:
    return getattr(config, "quantization", None) if isinstance(config, PassConfig) else config.to_dict()
