"""The authors' ways to choose thresholds, written from their papers, to measure ours against.

Left to right in one pass with a bounded scalar minimiser is DyCE's (arXiv 2403.01695); the single best saver is
TinySaver's (arXiv 2403.17726); one threshold for all stages is what most early-exit papers do.
"""

import numpy as np
from scipy.optimize import fminbound

from dynamic_exit.records import Records


class OnePass:
    """DyCE's search: positions from left to right, each head's threshold by a bounded scalar minimiser.

    The objective of a threshold is the whole system's, cost - trade * accuracy, with positions to the left as chosen
    and those to the right off. A position takes its best head if that lowers the objective.
    """

    def __init__(self, records: Records, system: str = "counts") -> None:
        self.system = self.counted if system == "counts" else self.simulated
        self.confidence = np.ascontiguousarray(records.topk_probabilities[:, :, 0])
        self.correct = np.asarray(records.topk_classes[:, :, 0]) == records.truth
        self.own = records.own_cost / records.baseline_cost
        self.prefix = records.prefix_cost / records.baseline_cost
        self.groups: dict[object, list[int]] = {}
        for stage, (kind, position) in enumerate(zip(records.kinds[:-1], records.positions[:-1], strict=True)):
            self.groups.setdefault(stage if kind == "saver" else ("exit", int(position)), []).append(stage)

    def simulated(self, chosen: list[tuple[int, float]]) -> tuple[float, float]:
        """Accuracy and cost ratio of (stage, threshold) pairs: each sample's exit, then what it means."""
        stages = [stage for stage, _ in chosen] + [len(self.own) - 1]
        leaves = self.confidence[stages] > np.array([t for _, t in chosen] + [-1], dtype=np.float32)[:, None]
        first = leaves.argmax(axis=0)
        accuracy = self.correct[stages][first, np.arange(leaves.shape[1])].mean()
        return float(accuracy), float((np.cumsum(self.own[stages]) + self.prefix[stages])[first].mean())

    def counted(self, chosen: list[tuple[int, float]]) -> tuple[float, float]:
        """The same with boolean counts only, as fast as numpy does it."""
        in_play = np.ones(self.correct.shape[1], dtype=bool)
        correct, cost, paid = 0, 0.0, 0.0
        for stage, threshold in chosen:
            leaves = in_play & (self.confidence[stage] > np.float32(threshold))
            paid += self.own[stage]
            correct += np.count_nonzero(self.correct[stage] & leaves)
            cost += np.count_nonzero(leaves) * (paid + self.prefix[stage])
            in_play &= ~leaves
        correct += np.count_nonzero(self.correct[-1] & in_play)
        cost += np.count_nonzero(in_play) * (paid + self.prefix[-1])
        return correct / len(in_play), cost / len(in_play)

    def configuration(self, multiplier: float) -> list[tuple[int, float]]:
        """(stage, threshold) at what full accuracy is worth in backbone runs."""

        def loss(chosen: list[tuple[int, float]]) -> float:
            accuracy, cost = self.system(chosen)
            return cost - multiplier * accuracy

        chosen: list[tuple[int, float]] = []
        for heads in self.groups.values():
            best, option = loss(chosen), None
            for stage in heads:
                threshold = float(fminbound(lambda t, stage=stage: loss([*chosen, (stage, t)]), 0.0, 1.0))
                if loss([*chosen, (stage, threshold)]) < best:
                    best, option = loss([*chosen, (stage, threshold)]), (stage, threshold)
            if option is not None:
                chosen.append(option)
        return chosen


def one_threshold(records: Records, stages: list[int], thresholds: np.ndarray) -> list[list[tuple[int, float]]]:
    """The same threshold at every one of some stages, for each of some thresholds."""
    return [[(stage, float(np.float32(t))) for stage in stages] for t in thresholds]


def best_single_saver(records: Records, max_drop: float) -> list[tuple[int, float]]:
    """TinySaver's: of every stage alone, at its cheapest threshold within the drop, the cheapest."""
    truth, samples = records.truth, len(records)
    final = records.topk_classes[-1, :, 0] == truth
    need = final.sum() - max_drop * samples - 1e-9
    best, chosen = records.baseline_cost, []
    for stage in range(len(records.stages) - 1):
        sure = records.topk_probabilities[stage, :, 0]
        order = np.argsort(-sure, kind="stable")
        correct = records.topk_classes[stage, order, 0] == truth[order]
        total = final.sum() + np.cumsum(correct.astype(np.int64) - final[order])
        ends = np.append(sure[order][1:] < sure[order][:-1], True)
        fits = np.flatnonzero(ends & (total >= need))
        if len(fits):
            leaving = fits[-1] + 1
            cost = (
                records.own_cost[stage]
                + (leaving * records.prefix_cost[stage] + (samples - leaving) * records.prefix_cost[-1]) / samples
            )
            if cost < best:
                low = 0.0 if leaving == samples else float(sure[order][leaving])
                best, chosen = cost, [(stage, low if leaving < samples else -1.0)]
    return chosen
