"""Tunes the operating points of a recipe on the records of its model."""

from ..points.operating_point import OperatingPoints
from ..records.splits import split
from ..search.options import SearchOptions
from ..tuning.optimizer import tune
from .replacement import Replacement
from .risk import risk_of
from .stages import RecordedBuild
from .static_search.results import StaticSearchResult


def judged(recorded: RecordedBuild) -> RecordedBuild:
    """Return a model with records that are judged by its recipe's risk, each fitted to its own samples.

    Raises:
        TuningError: As `risk_of`.
    """
    inputs = recorded.build.run_inputs
    risk = risk_of(inputs.recipe, inputs.classes)
    calibration, test = (records.with_risk(risk.fit(records)) for records in (recorded.calibration, recorded.test))
    return recorded._replace(calibration=calibration, test=test)


def tune_points(recorded: RecordedBuild, reference: StaticSearchResult | Replacement | None = None) -> OperatingPoints:
    """Search on calibration samples and report on test samples; a guarantee is tested on samples of its own.

    Args:
        recorded: The model and its records, judged by the recipe's risk.
        reference: Has the goals relative to what answers last, where those of the recipe are relative to another model.

    Returns:
        One point for each goal of the recipe, with that goal and its name.

    Raises:
        TuningError: A goal is out of reach, or there are too few samples.
    """
    build, calibration, test, unlabelled = recorded
    recipe = build.run_inputs.recipe
    tuning, proof = recipe.dynamic_exit.tuning, None
    if tuning.guarantee is not None:
        searched, _, proven = split(len(calibration), 0.5, False, recipe.seed)
        calibration, proof = calibration.take(searched), calibration.take(proven)
    written = [goal.goal(tuning.max_class_drop) for goal in tuning.goals]
    goals = reference.goals if reference else written
    if isinstance(reference, StaticSearchResult) and proof is not None:
        # what is promised is a drop below the model as it came
        worth = reference.baseline.correct("calibration")
        calibration, proof = calibration.with_reference(worth[searched]), proof.with_reference(worth[proven])
        goals = [kept if goal.budget is None else goal for kept, goal in zip(written, goals, strict=True)]
    points = tune(
        calibration,
        test,
        goals,
        SearchOptions(recipe.dynamic_exit.evidence, seed=recipe.seed, risk=test.risk, unlabelled=unlabelled),
        guarantee_records=proof,
        guarantee=tuning.guarantee,
    )
    named = [
        point.model_copy(update={"name": wanted.point_name, "goal": goal})
        for wanted, goal, point in zip(tuning.goals, written, points.points, strict=True)
    ]
    warnings = (*points.warnings, *(reference.notes if reference else ()))
    return points.model_copy(update={"points": tuple(named), "warnings": warnings})
