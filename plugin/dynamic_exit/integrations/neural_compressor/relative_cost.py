"""What models in memory cost, over the model that they were made of."""

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from ...chain.evaluation import Configuration, evaluate
from ...chain.names import HIDDEN
from ...chain.spec import head_input_names
from ...cost import count_macs, measure_latency
from ...records import Records
from ...runtime.model import DynamicExitModel
from ...search.optimizer import front
from .in_memory import evaluation_mode

COSTS = ("macs", "latency")
# samples in a call that is timed, seconds for one model, and points of a front
_BATCH_SIZE, _TIME_LIMIT, _POINTS = 64, 10.0, 60
_GIVEN = "the given model"


class RelativeCost:
    """The given model, and what others cost over it.

    Args:
        given: The model.
        inputs: Some samples, (N, ...).
        cost: One of `COSTS`.
    """

    def __init__(self, given: nn.Module, inputs: Tensor, cost: str):
        self.given, self.cost = given, cost
        self.batch = inputs.detach().cpu()[:_BATCH_SIZE]
        if cost == "macs":
            with evaluation_mode(given):
                self.macs = count_macs(given, (self._two(),))

    def _two(self) -> Tensor:
        return torch.cat([self.batch, self.batch])[:2]

    def of(self, made: nn.Module) -> float:
        """Return the cost of a model that is not dynamic, over the given one's."""
        if self.cost == "macs":
            return count_macs(made, (self._two(),)) / self.macs
        return self.seconds({"made": partial(made, self.batch)})["made"]

    def seconds(self, calls: dict) -> dict[str, float]:
        """Time calls on the batch in turn with the given model, and return their times over its own."""
        with evaluation_mode(self.given):
            timed = measure_latency(
                {_GIVEN: partial(self.given, self.batch), **calls}, batch=len(self.batch), time_limit=_TIME_LIMIT
            )
        return {name: each.median / timed[_GIVEN].median for name, each in timed.items() if name != _GIVEN}

    def measured(self, model: DynamicExitModel) -> tuple[np.ndarray, np.ndarray]:
        """Time every stage of a dynamic model; return own and prefix costs as records have them."""
        values = dict.fromkeys(model.input_names, self.batch)
        calls = {
            name: partial(model.stage_module(name), self.batch)
            for name, place in zip(model.chain, model.positions, strict=True)
            if place < 0
        }
        with torch.no_grad():
            for place, segment in enumerate(model.segments):
                inputs = [values[name] for name in model.segment_input_names[place]]
                calls[f"segment {place}"] = partial(segment, *inputs)
                values[HIDDEN] = segment(*inputs)
                for name, at in zip(model.chain, model.positions, strict=True):
                    if at == place:
                        head = model.stage_module(name)
                        calls[name] = partial(head, *(values[each] for each in head_input_names(head)))
        seconds = self.seconds(calls)
        reached = np.cumsum([seconds[f"segment {place}"] for place in range(len(model.segments))])
        own = np.array([*(seconds[name] for name in model.chain), 0.0])
        prefix = np.array([*(reached[place] if place >= 0 else 0.0 for place in model.positions), reached[-1]])
        return own, prefix


#: A configuration and its cost over the given model.
Point = tuple[Configuration, float]


def threshold_fronts(records: Records, fuse: str) -> list[list[Point]]:
    """Return two fronts of a dynamic model's thresholds, each from dear to cheap.

    There are no labels, so what is right is guessed in two ways: the final's answer, and what all stages together say,
    which is right more often where they are many. Neither knows the score; that chooses among the points of both.

    Args:
        records: Those that it was tuned on, with costs over the given model's.
        fuse: As the model does.
    """
    guesses = (records.topk_classes[-1, :, 0].astype(np.int64), _consensus(records))
    return [_points(replace(records, labels=truth), fuse) for truth in guesses]


def _points(records: Records, fuse: str) -> list[Point]:
    found = [*front(records, _POINTS, fuse=fuse), Configuration()]
    points = [(configuration, evaluate(records, configuration).cost) for configuration in found]
    return sorted(points, key=lambda point: point[1], reverse=True)


def _consensus(records: Records) -> np.ndarray:
    """int64 (N,): the class of the largest mean probability over all stages."""
    total = np.zeros((len(records), 1 + int(records.topk_classes.max())))
    for classes, probabilities in zip(records.topk_classes, records.topk_probabilities, strict=True):
        total[np.arange(len(records))[:, None], classes] += probabilities
    return total.argmax(axis=1).astype(np.int64)


def with_relative_costs(model: DynamicExitModel, costs: RelativeCost) -> Records:
    """Return the records of a dynamic model with costs over the given one's."""
    records = model.records
    if costs.cost == "macs":
        own, prefix = records.own_cost / costs.macs, records.prefix_cost / costs.macs
    else:
        own, prefix = costs.measured(model)
    return replace(records, own_cost=own, prefix_cost=prefix)
