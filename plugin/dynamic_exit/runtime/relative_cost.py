"""Cost of models in memory, relative to the model that they were made from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from ..chain.evaluation import evaluate
from ..chain.evidence import Evidence
from ..chain.thresholds import Configuration
from ..chain.walk import Runnable, Step, walk
from ..cost import ExitCost, chain_cost, count_macs, measure_latency
from ..graph import evaluation_mode
from ..records import Records
from ..search.options import SearchOptions
from ..tuning.optimizer import front
from .model import DynamicExitModel

#: Units of cost: multiply-adds, or seconds.
COSTS = ("macs", "latency")
#: Samples in a timed call, and the seconds spent on timing one model.
TIMING_BATCH_SIZE, TIME_LIMIT = 64, 10.0
#: Points on a front of thresholds.
FRONT_POINTS = 60
_BASELINE = "the given model"

#: A configuration of thresholds, and its cost relative to the given model.
Point = tuple[Configuration, float]


class RelativeCost:
    """Measures models against the given one.

    Args:
        baseline: The given model.
        inputs: Some samples, (N, ...).
        unit: One of `COSTS`.
    """

    def __init__(self, baseline: nn.Module, inputs: Tensor, unit: str):
        self.baseline, self.unit = baseline, unit
        self.batch = inputs.detach().cpu()[:TIMING_BATCH_SIZE]
        if unit == "macs":
            with evaluation_mode(baseline):
                self.macs = count_macs(baseline, (self._two_samples(),))

    def _two_samples(self) -> Tensor:
        return torch.cat([self.batch, self.batch])[:2]

    def ratio(self, model: nn.Module) -> float:
        """Return the relative cost of a model without stages."""
        if self.unit == "macs":
            return count_macs(model, (self._two_samples(),)) / self.macs
        return self._latency_ratios({"model": partial(model, self.batch)})["model"]

    def records(self, model: DynamicExitModel) -> Records:
        """Return the records that a dynamic model was tuned on, with relative costs.

        Raises:
            ValueError: The model was not tuned in memory and has no records.
        """
        records = model.records
        if records is None:
            raise ValueError("the model has no records; tune it in memory")
        if self.unit == "macs":
            own, prefix = records.own_cost / self.macs, records.prefix_cost / self.macs
        else:
            own, prefix = self._measure_stages(model)
        return replace(records, own_cost=own, prefix_cost=prefix)

    def _latency_ratios(self, calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
        """Time calls on the batch interleaved with the given model; return their latency relative to its own."""
        with evaluation_mode(self.baseline):
            timed = measure_latency(
                {_BASELINE: partial(self.baseline, self.batch), **calls}, batch=len(self.batch), time_limit=TIME_LIMIT
            )
        return {name: each.median / timed[_BASELINE].median for name, each in timed.items() if name != _BASELINE}

    def _measure_stages(self, model: DynamicExitModel) -> tuple[np.ndarray, np.ndarray]:
        """Time every stage of a dynamic model; return own and prefix cost, float64 (S,), as in records."""
        calls: dict[str, Callable[[], object]] = {}

        def keep_call(step: Step, part: Runnable, arguments: Sequence[Tensor]) -> Tensor:
            if part is step.part:
                calls[step.name] = partial(part.run, *arguments)
            return cast(Tensor, part.run(*arguments))

        steps = model.steps()
        with torch.no_grad():
            walk(steps, dict.fromkeys(model.input_names, self.batch), call=keep_call)
        ratios = self._latency_ratios(calls)
        costs = chain_cost(
            {step.name: ratios[step.name] for step in steps if step.kind == "saver"},
            [ratios[step.name] for step in steps if step.kind == "segment"],
            {step.name: ExitCost(step.place, ratios[step.name]) for step in steps if step.kind == "exit"},
        )
        return np.array(list(costs.own.values())), np.array(list(costs.prefix.values()))


def threshold_fronts(records: Records, fuse: Evidence) -> list[list[Point]]:
    """Return two fronts of a dynamic model's thresholds, each from expensive to cheap.

    Without labels, the correct class is estimated in two ways: by the final stage's answer, and by the consensus of all
    stages, which is more often correct if there are many. Neither knows the score, which then decides among the points
    of both.

    Args:
        records: The records that the model was tuned on, with relative costs.
        fuse: How the model combines answers.
    """
    estimates = (records.topk_classes[-1, :, 0].astype(np.int64), _consensus(records))
    return [_front(replace(records, labels=labels), fuse) for labels in estimates]


def _front(records: Records, fuse: Evidence) -> list[Point]:
    configurations = [*front(records, FRONT_POINTS, SearchOptions(fuse)), Configuration()]
    points = [(each, evaluate(records, each).cost) for each in configurations]
    return sorted(points, key=lambda point: point[1], reverse=True)


def _consensus(records: Records) -> np.ndarray:
    """int64 (N,): the class with the largest mean probability over all stages."""
    return Evidence("mean").on(records).search(tuple(range(len(records.stages))))[0]
