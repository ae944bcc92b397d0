"""The stages that ran so far answer together: a product of their probabilities, each to the power that it deserves."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from ..graph_writer import GraphWriter
from .base import Answers, Approximation, ArrayState, RecordedEvidence, TensorState, WeighedRule
from .kept_classes import Rows, Shares, approximate_sums, summed_answers
from .registry import register_evidence

if TYPE_CHECKING:
    from torch import Tensor

#: Probabilities far below it count as if they were this large: what a stage finds unlikely is no proof against a class.
FLOOR = 0.01
_PER_FLOOR = np.float32(1 / FLOOR)
# below it exp(s) - 1 loses digits in float32, and s + s^2 / 2 + s^3 / 6 does not
_SMALL = np.float32(0.01)


@register_evidence("product")
class WeightedProduct(WeighedRule):
    """Multiply the probabilities of all stages so far, each to a power (logarithmic opinion pool).

    With s(c) = sum over stages of power * log(1 + p(c) / 0.01), over the five most likely classes of each, the evidence
    of class c is exp(s(c)) - 1 over the sum of that over all classes: 0 for a class that no stage names, so that
    records which keep five classes and files agree. Powers are learned from records, see `learning`; a stage that gives
    NaN for a row is left out for that row. The state is s.

    Args:
        power: Of the stage that is added.
    """

    classes = 5

    def __init__(self, power: float = 1.0) -> None:
        self.power = np.float32(power)

    def with_power(self, power: float) -> "WeightedProduct":
        """Return the rule for a stage of this power."""
        return _with_power(type(self), float(power))

    def numpy(self, state: ArrayState, probabilities: np.ndarray) -> tuple[ArrayState, np.ndarray]:
        """Add the stage to the sum."""
        known = np.where(np.isnan(probabilities.sum(axis=1, keepdims=True)), np.float32(0), probabilities)
        likely = np.argsort(-known, axis=1, kind="stable")[:, : self.classes]
        total = np.zeros_like(known)
        np.put_along_axis(total, likely, self.share(np.take_along_axis(known, likely, axis=1)), axis=1)
        if state:
            total = state[0] + total
        return (total,), _linked(total.T, 0).T

    def torch(self, state: TensorState, probabilities: "Tensor") -> "tuple[TensorState, Tensor]":
        """Add the stage to the sum."""
        known = probabilities.masked_fill(probabilities.isnan().any(dim=1, keepdim=True), 0)
        # unlike topk, a stable sort names the lowest of equal classes first
        values, likely = (each[:, : self.classes] for each in known.sort(dim=1, descending=True, stable=True))
        share = (values * float(_PER_FLOOR) + 1).log() * float(self.power)
        total = (state[0] if state else known.new_zeros(known.shape)).scatter_add(1, likely, share)
        largest = total.amax(dim=1, keepdim=True)
        unit = (-largest).exp()
        small = total * (total * (total / 6 + 0.5) + 1) * unit
        evidence = small.where(total < float(_SMALL), (total - largest).exp() - unit)
        return (total,), evidence / evidence.sum(dim=1, keepdim=True)

    def onnx(self, graph: GraphWriter, state: str, probabilities: str) -> tuple[str, str]:
        """Add the stage to the sum."""
        zero, one = graph.constant(0, np.float32), graph.constant(1, np.float32)
        # the softmax of a row with a NaN is all NaN
        known = graph.add("Where", graph.add("IsNaN", probabilities), zero, probabilities)
        sizes = graph.add("Shape", known, start=1, end=2)
        most = graph.add("Min", sizes, graph.constant([self.classes], np.int64))
        values, likely = graph.add_pair("TopK", known, most, axis=1)
        scaled = graph.add("Add", graph.add("Mul", values, graph.constant(_PER_FLOOR, np.float32)), one)
        share = graph.add("Mul", graph.add("Log", scaled), graph.constant(self.power, np.float32))
        before = state or graph.add("Mul", known, zero)
        total = graph.add("ScatterElements", before, likely, share, axis=1, reduction="add")
        axis = graph.constant([1], np.int64)
        largest = graph.add("ReduceMax", total, axis, keepdims=1)
        unit = graph.add("Exp", graph.add("Neg", largest))
        exact = graph.add("Sub", graph.add("Exp", graph.add("Sub", total, largest)), unit)
        series = graph.add(
            "Add", graph.add("Mul", total, graph.constant(1 / 6, np.float32)), graph.constant(0.5, np.float32)
        )
        series = graph.add("Mul", total, graph.add("Add", graph.add("Mul", total, series), one))
        small = graph.add("Less", total, graph.constant(_SMALL, np.float32))
        evidence = graph.add("Where", small, graph.add("Mul", series, unit), exact)
        return total, graph.add("Div", evidence, graph.add("ReduceSum", evidence, axis, keepdims=1))

    def onnx_width(self, classes: int) -> int:
        """Return the number of classes."""
        return classes

    def share(self, probabilities: np.ndarray) -> np.ndarray:
        """Return what this stage adds for probabilities of any shape, float32."""
        return np.log(probabilities * _PER_FLOOR + np.float32(1)) * self.power

    def evaluate(self, recorded: RecordedEvidence, seen: Sequence[int], rows: np.ndarray) -> Answers:
        """Return the class and confidence of the product, from the kept classes alone: no others have evidence."""
        return summed_answers(recorded, _shares(recorded), _linked, seen, rows)

    def search(self, recorded: RecordedEvidence, seen: tuple[int, ...]) -> Answers:
        """Return the same as `evaluate` for all samples, from the kept classes alone."""
        return summed_answers(recorded, _shares(recorded), _linked, seen)

    def approximate(self, recorded: RecordedEvidence) -> Approximation:
        """Return the product over the classes that all stages together find most likely, the true one included."""
        return approximate_sums(recorded, _shares(recorded), _linked)


@cache
def _with_power(rule: type[WeightedProduct], power: float) -> WeightedProduct:
    return rule(power)


def _shares(recorded: RecordedEvidence) -> Shares:
    kept = recorded.records.topk_probabilities[:, :, : WeightedProduct.classes]

    def shares(stage: int, rows: Rows) -> np.ndarray:
        if stage not in recorded.made:
            recorded.made[stage] = _with_power(WeightedProduct, recorded.powers[stage]).share(kept[stage])
        return recorded.made[stage][rows]

    return shares


def _linked(total: np.ndarray, stages: int) -> np.ndarray:
    # sums (classes, n) of any number of stages to evidence
    largest = total.max(axis=0)
    unit = np.exp(-largest)
    evidence: np.ndarray = np.subtract(total, largest)
    np.exp(evidence, out=evidence)
    evidence -= unit
    # few are small and not 0, where both give 0
    places = np.flatnonzero((total < _SMALL) & (total > 0))
    small = total.take(places)
    series = small * (small * (small * np.float32(1 / 6) + np.float32(0.5)) + np.float32(1))
    np.put(evidence, places, series * unit.take(places % len(unit)))
    with np.errstate(invalid="ignore"):
        evidence /= evidence.sum(axis=0)
    return evidence
