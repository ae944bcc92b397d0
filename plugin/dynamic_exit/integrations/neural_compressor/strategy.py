"""The configuration optimizer as a strategy of Neural Compressor's `autotune`: cost counts as well as the score.

`autotune` keeps the trial of the highest score, whatever it costs, and stops at the first that is good enough. So it is
told of each trial not its score but its merit: the less it costs the better, where its score is good enough. The
evaluation function is called as often as thresholds need, while static passes and training run once for each config.
"""

import copy
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from neural_compressor.common.base_config import BaseConfig
from neural_compressor.common.base_tuning import ConfigSet
from neural_compressor.torch.quantization import quantize
from torch import Tensor, nn

from ...chain.evaluation import Configuration
from ...chain.goal_limits import LARGEST_DROP
from ...errors import DynamicExitError, PassError, TuningError, nearest
from ...runtime.model import DynamicExitModel
from .configs import PassConfig
from .evaluator import Evaluator, check_tolerable_loss
from .in_memory import evaluation_mode
from .loss_surrogate import LossSurrogate
from .plan import DYNAMIC_EXIT
from .relative_cost import COSTS, Point, RelativeCost, threshold_fronts, with_relative_costs

logger = logging.getLogger(__name__)

# merits of what misses the goal, and of what could not be made, lie below those of everything that meets it
_MISSED, _FAILED = -1e6, -1e12
# cheaper points that are tried beyond the first that misses: losses of neighbours differ by a few samples
_BEYOND = 1
# points that are scored in the end at most, and the saving expected of one, over the best cost, that ends it
_REFINEMENTS, _TOO_LITTLE = 40, 0.0005
# answers that differ from the model's are not all wrong: savers are picked for so many times the loss
_LOOSER = 5.0


@dataclass
class Trial:
    """What became of one config.

    Attributes:
        config: As it was given.
        score: Of its best point; None where it was not scored.
        loss: Relative to the given model's score.
        cost_ratio: Of that point, over the given model.
        thresholds: Of that point, by stage; empty for a model that is not dynamic.
        evaluations: How often the evaluation function was called.
        meets: Whether the loss is tolerable.
        why: In words.
    """

    config: BaseConfig
    score: float | None = None
    loss: float | None = None
    cost_ratio: float | None = None
    thresholds: tuple[float, ...] = ()
    evaluations: int = 0
    meets: bool = False
    why: str = ""

    @property
    def merit(self) -> float:
        """What `autotune` is told: less cost is more."""
        if self.score is None:
            return _FAILED
        return -self.cost_ratio if self.meets else _MISSED * (1 + max(self.loss, 0.0))


@dataclass(frozen=True)
class _Choice:
    """A dynamic model that thresholds can still be set on."""

    trial: Trial
    made: DynamicExitModel
    surrogate: LossSurrogate


class ConfigurationOptimizer:
    """Finds, among configs and all thresholds, what costs least at a tolerable loss of the score.

    Dynamic models of all configs are kept to the end, as thresholds of any of them may turn out best.

    Args:
        tolerable_loss: Largest relative loss of the score, in 0..1.
        cost: ``macs``, or ``latency``: seconds of every stage, beside the given model's.

    Attributes:
        trials: What became of each config, in their order.
        best: The trial whose model comes back; None before the first.

    Raises:
        PassError: A parameter is out of its range.
    """

    def __init__(self, *, tolerable_loss: float = 0.01, cost: str = "macs"):
        check_tolerable_loss(tolerable_loss)
        if cost not in COSTS:
            raise PassError(f"`cost` is {cost!r}; {nearest(str(cost), COSTS)}")
        self.tolerable_loss, self.cost = tolerable_loss, cost
        self.trials: list[Trial] = []
        self.best: Trial | None = None
        self._configs: list[BaseConfig] = []
        self._evaluator: Evaluator | None = None
        self._relative_cost: RelativeCost | None = None
        self._ended = False

    @property
    def evaluations(self) -> int:
        """How often the evaluation function was called, the given model's score included."""
        return sum(trial.evaluations for trial in self.trials) + (self._relative_cost is not None)

    def __call__(self, config_set: ConfigSet) -> "ConfigurationOptimizer":
        """Take the configs, as `autotune` gives them to its sampler.

        Raises:
            PassError: There is none, one is there twice, or their costs cannot be compared.
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
        config_set.config_list = [_as_trial(config, self) for config in given]
        self.trials = [Trial(config) for config in given]
        self._configs, self._failure = config_set.config_list, None
        self.best, self._kept, self._ended = None, None, False
        self._choices: list[_Choice] = []
        self._current, self._relative_cost = -1, None
        return self

    def __iter__(self) -> Iterator[int]:
        """Give the configs' places in turn, as `autotune` asks for them.

        Raises:
            PassError: `autotune` was given another evaluation function.
        """
        if self._relative_cost is None:
            raise PassError("`eval_fn` is not this optimizer's; write eval_fn=optimizer.scoring(eval_fn)")
        for place in range(len(self._configs)):
            self._current = place
            yield place

    def scoring(self, eval_fn: Callable) -> Callable:
        """Return the function that `autotune` takes as `eval_fn`.

        Args:
            eval_fn: Model in, one score out, above 0 for the given model, and larger is better.

        Raises:
            PassError: It is no function.
        """
        if not callable(eval_fn):
            raise PassError(f"`eval_fn` must be a function of the model; got {type(eval_fn).__name__}")

        def merit(model: nn.Module, *arguments: Any) -> float:
            if not self._configs:
                raise PassError("the optimizer has no configs; give it to TuningConfig as `sampler`, too")
            if self._relative_cost is None:
                self._evaluator = Evaluator(eval_fn, arguments, None)
                return self._begin(model)
            return self._consider(model)

        return merit

    def search(
        self,
        model: nn.Module,
        config_set: Sequence[BaseConfig],
        eval_fn: Callable,
        *,
        run_fn: Callable | None = None,
        example_inputs: Any = None,
    ) -> nn.Module:
        """Do without `autotune` what it does with this optimizer.

        Args:
            model: It stays as it was.
            config_set: Configs.
            eval_fn: As for `scoring`.
            run_fn: Calls the model that it is given on calibration batches.
            example_inputs: As Neural Compressor's `quantize` takes them.

        Returns:
            The best model; where none keeps the loss, the one that loses least, with a warning.

        Raises:
            DynamicExitError: One sentence on what cannot be done and why.
        """
        configs = ConfigSet([*config_set])
        self(configs)
        score = self.scoring(eval_fn)
        score(copy.deepcopy(model))
        for place in self:
            config = configs[place]
            made = quantize(copy.deepcopy(model), config, run_fn=run_fn, example_inputs=example_inputs)
            score(made)
        return self._kept

    def _begin(self, model: nn.Module) -> float:
        """Score the given model, and see what it is fed."""
        seen: list[Tensor] = []

        def look(_, inputs, named) -> None:
            if not seen:
                seen.extend((*inputs, *named.values()))

        hook = model.register_forward_pre_hook(look, with_kwargs=True)
        try:
            with evaluation_mode(model):
                self._evaluator.score_baseline(model)
        finally:
            hook.remove()
        if not seen:
            raise PassError("`eval_fn` never called the model; let it call the model that it is given")
        if len(seen) > 1 or not isinstance(seen[0], Tensor):
            raise PassError("the optimizer takes models of one tensor in memory; for others run a recipe, with "
                            "`tuning.static_search` for several static choices")  # fmt: skip
        self._relative_cost = RelativeCost(model, seen[0], self.cost)
        return self._evaluator.baseline

    def _consider(self, made: nn.Module) -> float:
        """Find the best point of a model that was made of the current config."""
        trial = self.trials[self._current]
        if self._failure is not None:
            trial.why, self._failure = f"left out: {self._failure}", None
        elif isinstance(made, DynamicExitModel) and made.records is not None:
            self._descend(_Choice(trial, made, LossSurrogate(made, with_relative_costs(made, self._relative_cost))))
        else:
            self._score(trial, made, self._relative_cost.of(made))
        logger.info(f"config {self._current + 1} of {len(self.trials)}, {trial.config.name}: {trial.why}")
        if trial.score is not None and (self.best is None or trial.merit > self.best.merit):
            self.best, self._kept = trial, made
        merit = trial.merit
        if self._current == len(self.trials) - 1:
            self._end()
        # refined after another config had lost to it, the best may not be told of anew: its order is what counts
        return merit

    def _end(self) -> None:
        if self.best is None:
            reason = next(trial.why for trial in self.trials)
            raise TuningError(f"no config of `config_set` can be made, the first is {reason}")
        if self.best.meets and isinstance(self.best.config, PassConfig):
            self._refine()  # of an algorithm of the host `autotune` makes its best config again, and asks nobody
        self._ended = True
        if not self.best.meets:
            warnings.warn(
                f"no config of `config_set` keeps the loss at or under {self.tolerable_loss:.2%}; the least that was "
                f"found is {self.best.loss:.2%}, and its model comes back; allow more or compress less",
                stacklevel=5,
            )

    def _descend(self, choice: _Choice) -> None:
        """Go down the fronts of a model's thresholds to the cheapest point that keeps the loss."""
        trial = choice.trial
        for points in threshold_fronts(choice.surrogate.records, choice.made.fuse):
            known = [each.cost_ratio for each in (self.best, trial) if each is not None and each.meets]
            self._halve(choice, [point for point in points if point[1] < min(known, default=np.inf)])
        if trial.score is None:
            trial.why = f"not scored: nothing of it costs less than {self.best.cost_ratio:.4f}"
        else:
            choice.made.set_thresholds(trial.thresholds)
            self._choices.append(choice)

    def _halve(self, choice: _Choice, points: Sequence[Point]) -> None:
        """Score the dearest point, and where it meets the goal halve the way to the first that does not."""
        tried: dict[int, bool] = {}

        def meets(place: int) -> bool:
            if place not in tried:
                configuration, cost = points[place]
                tried[place] = self._try(choice, cost, _thresholds(choice.made, configuration))
            return tried[place]

        low, high = 0, len(points)
        if not points or not meets(0):
            return
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if meets(middle) else (low, middle)
        for place in range(high + 1, min(high + 1 + _BEYOND, len(points))):
            meets(place)

    def _refine(self) -> None:
        """Score what is expected to save most, of all dynamic models: fronts know no labels, losses of points do."""
        for _ in range(_REFINEMENTS):
            cost = self.best.cost_ratio
            points = [each.surrogate.best(each.trial.thresholds, cost, self.tolerable_loss) for each in self._choices]
            found = [pair for pair in zip(self._choices, points, strict=True) if pair[1] is not None]
            if not found:
                break
            choice, (saving, thresholds, price) = max(found, key=lambda pair: pair[1][0])
            if saving < _TOO_LITTLE * cost:
                break
            if self._try(choice, price, thresholds):
                self.best, self._kept = choice.trial, choice.made
        for choice in self._choices:
            choice.made.set_thresholds(choice.trial.thresholds)

    def _try(self, choice: _Choice, cost: float, thresholds: Sequence[float]) -> bool:
        """Score a point of a dynamic model, learn from it, and return whether it meets the goal."""
        found = self._score(choice.trial, choice.made, cost, thresholds)
        choice.surrogate.learn(found.thresholds, found.loss)
        return found.meets

    def _score(self, trial: Trial, made: nn.Module, cost: float, thresholds: Sequence[float] = ()) -> Trial:
        """Score a model, keep it if it is the config's best so far, and return what was found."""
        if thresholds:
            made.set_thresholds(thresholds)
        score = self._evaluator.score(made)
        loss = (self._evaluator.baseline - score) / self._evaluator.baseline
        found = Trial(trial.config, score, loss, cost, tuple(thresholds), meets=loss <= self.tolerable_loss)
        trial.evaluations += 1
        if found.merit > trial.merit:
            trial.score, trial.loss, trial.cost_ratio, trial.meets = score, loss, cost, found.meets
            trial.thresholds = found.thresholds
            trial.why = f"costs {cost:.4f} of the given model, loses {loss:.2%}" + ("" if found.meets else ", too much")
        return found


def _thresholds(model: DynamicExitModel, configuration: Configuration) -> list[float]:
    used = dict(configuration.stages)
    return [used.get(stage, float("inf")) for stage in model.chain]


def _numerics(config: BaseConfig) -> Any:
    return getattr(config, "quantization", None) if isinstance(config, PassConfig) else config.to_dict()


def _as_trial(config: BaseConfig, optimizer: ConfigurationOptimizer) -> BaseConfig:
    """Return a pass's config that says, where it cannot be applied, so to the optimizer, and whose result it keeps."""
    if not isinstance(config, PassConfig):
        return config
    kind = type(config)

    def apply(model: nn.Module, trial: PassConfig, calls, example_inputs) -> nn.Module:
        if optimizer._ended:
            return optimizer._kept  # `autotune` asks for the best config's model again
        try:
            return kind.apply(model, trial, calls, example_inputs)
        except DynamicExitError as error:
            optimizer._failure = error
            return model

    made = copy.deepcopy(config)
    if config.name == DYNAMIC_EXIT:
        # savers are picked for the loss that is allowed here; thresholds then follow the score
        allowed = max(config.tuning["max_accuracy_drop"], min(LARGEST_DROP, _LOOSER * optimizer.tolerable_loss))
        made.tuning = {**config.tuning, "max_accuracy_drop": allowed}
    # the same parameters, those of single modules included, applied in another way
    made.__class__ = type(kind.__name__, (kind,), {"apply": staticmethod(apply)})
    return made
