"""The model of today, and what an upgrade gains over it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...chain.evaluation import evaluate
from ...guarantee import BettingTest, Losses, standard_error
from ...guarantee.drop_checks import MAX_STANDARD_ERRORS, paired_standard_error
from ...guarantee.sample_shift import find_shift
from ...points.operating_point import OperatingPoint, OperatingPoints
from ...records import Records
from ...records.splits import split
from ...report.figures import UpgradeBackboneFigures, UpgradeFigures, UpgradePointFigures
from ..stages import RecordedBuild


@dataclass(frozen=True)
class Today:
    """The model that answers today, alone and in float.

    Attributes:
        name: Of its stage.
        cost: Per sample, in the recipe's unit.
        calibration: bool (N,): where it is correct on calibration samples.
        test: bool (N,): where it is correct on test samples.
    """

    name: str
    cost: float
    calibration: np.ndarray
    test: np.ndarray


def searched_rows(samples: int, guarantee: float | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of calibration samples that are searched, and those that test a guarantee; as `tune_points`."""
    if guarantee is None:
        return np.arange(samples), np.arange(0)
    searched, _, proven = split(samples, 0.5, False, seed)
    return searched, proven


@dataclass(frozen=True)
class UpgradeResult:
    """A chain with the best backbone, beside the model of today.

    Attributes:
        today: That model.
        backbones: All of them, as they did on the samples searched.
        budgets: What each point may cost over today's model, by the point's name.
    """

    today: Today
    backbones: Sequence[UpgradeBackboneFigures]
    budgets: dict[str, float]

    def figures(self, recorded: RecordedBuild, points: OperatingPoints) -> UpgradeFigures:
        """Compare the points with the model of today.

        Args:
            recorded: The chain, with its records.
            points: Tuned and measured on them.
        """
        accuracy = float(self.today.test.mean())
        differ = find_shift(recorded.calibration, recorded.test) is not None
        return UpgradeFigures(
            model=self.today.name,
            accuracy=accuracy,
            accuracy_standard_error=standard_error(accuracy, len(self.today.test)),
            cost=self.today.cost,
            backbones=list(self.backbones),
            points=[self._point(point, recorded, differ) for point in points.points],
        )

    def _point(self, point: OperatingPoint, recorded: RecordedBuild, differ: bool) -> UpgradePointFigures:
        recipe, before = recorded.build.run_inputs.recipe, self.today.test
        found = evaluate(recorded.test, point.configuration)
        correct = found.prediction == recorded.test.labelled_truth
        gain, error = float(correct.mean() - before.mean()), paired_standard_error(before, correct)
        ratio, budget = found.cost / self.today.cost, self.budgets[point.name]
        spread = found.cost_ratio_error * recorded.test.baseline_cost / self.today.cost
        probability = recipe.dynamic_exit.tuning.guarantee
        promised = probability is not None and not differ and self._is_no_worse(point, recorded, probability)
        beyond = ratio - budget > MAX_STANDARD_ERRORS * spread
        within = f", more than two standard errors beyond the {budget:g}x that was asked for" if beyond else ""
        verdict = (
            f"{point.name}: for {ratio:.2f} ± {spread:.2f}x of what '{self.today.name}' costs today{within}, accuracy "
            f"{'rises' if gain > 0 else 'falls' if gain < 0 else 'stays'} from {before.mean():.1%} to "
            f"{correct.mean():.1%} ({100 * gain:+.1f} ± {100 * error:.1f} points), measured on {len(before)} test "
            "samples; " + _promise(probability, promised, differ)
        )
        return UpgradePointFigures(
            name=point.name,
            budget=budget,
            accuracy=float(correct.mean()),
            accuracy_gain=gain,
            accuracy_gain_standard_error=error,
            cost_ratio=ratio,
            cost_ratio_standard_error=spread,
            guarantee=probability if promised else None,
            verdict=verdict,
        )

    def _is_no_worse(self, point: OperatingPoint, recorded: RecordedBuild, probability: float) -> bool:
        """Whether samples that no threshold was searched on show that a point is right at least as often as today."""
        calibration, seed = recorded.calibration, recorded.build.run_inputs.recipe.seed
        searched, proven = searched_rows(len(calibration), probability, seed)
        losses = [self._losses(point, calibration, rows) for rows in (searched, proven)]
        expected = max(losses[0].mean_square, 1 / losses[0].samples)
        return BettingTest(0.0, probability, len(proven), expected).passes(losses[1])

    def _losses(self, point: OperatingPoint, records: Records, rows: np.ndarray) -> Losses:
        taken = records.take(rows)
        correct = evaluate(taken, point.configuration).prediction == taken.labelled_truth
        return Losses.of(self.today.calibration[rows].astype(float) - correct)


def _promise(probability: float | None, promised: bool, differ: bool) -> str:
    if promised:
        return f"with probability {probability:g} it is right at least as often as today on samples like these"
    if probability is None:
        return "nothing is guaranteed"
    if differ:
        return "no guarantee: calibration and test samples differ"
    return (
        f"no guarantee: its calibration samples do not show with probability {probability:g} that it is right at "
        "least as often as today"
    )
