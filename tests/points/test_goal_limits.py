"""Goals that cannot be meant, such as percentages where a share is expected, wherever a user asks for them."""

import numpy as np
import pytest
from points import file_of, point

from dynamic_exit.errors import DynamicExitError, OperatingPointError, PassError, RecipeError
from dynamic_exit.passes import explain
from dynamic_exit.points.goal import Goal
from dynamic_exit.points.goal_limits import explain_excessive_drop, goals_from_drops
from dynamic_exit.points.operating_point import OperatingPoints
from dynamic_exit.recipe import PointGoal, Tuning

DOUBTS = [
    (1, "is 1, which allows a loss of 100 points; did you mean 0.01?"),
    (0.5, "is 0.5, which allows a loss of 50 points; did you mean 0.005?"),
    (0.21, "is 0.21, which allows a loss of 21 points; did you mean 0.0021?"),
    (5, "is 5, which allows a loss of 500 points; did you mean 0.05?"),
    (20, "is 20, which allows a loss of 2000 points; did you mean 0.2?"),
    (50, "is 50, which allows a loss of 5000 points; it is a share of at most 0.2"),
    (float("inf"), "is inf, which allows a loss of inf points; it is a share of at most 0.2"),
]
BUDGET_DOUBTS = [
    (40, "is 40, which is 4000 % of the backbone's cost; did you mean 0.4?"),
    (100, "is 100, which is 10000 % of the backbone's cost; did you mean 1?"),
    (1.5, "is 1.5, which is 150 % of the backbone's cost; it is a share of at most 1"),
    (400, "is 400, which is 40000 % of the backbone's cost; it is a share of at most 1"),
]


def in_stanza(kind, values):
    from pydantic import ValidationError

    try:
        kind.model_validate(values)
    except ValidationError as error:
        raise RecipeError(explain(error, "dynamic_exit.tuning")) from error


def by_strategy(loss):
    from dynamic_exit import ConfigurationOptimizer

    ConfigurationOptimizer(tolerable_loss=loss)


def in_memory(drop):
    from dynamic_exit import DynamicExitConfig

    DynamicExitConfig(early_exit={}, tuning={"max_accuracy_drop": drop})


def by_cli(drop):
    from dynamic_exit.tuning.optimizer import tune_file

    tune_file("nowhere.npz", "nowhere.json", max_accuracy_drops=[drop])


DROP_DOORS = {
    "goals_of": (lambda drop: goals_from_drops([0.0, drop]), "the allowed accuracy drop "),
    "tune_file": (by_cli, "the allowed accuracy drop "),
    "recipe": (
        lambda drop: in_stanza(Tuning, {"max_accuracy_drop": drop}),
        "key 'dynamic_exit.tuning.max_accuracy_drop' ",
    ),
    "point of a recipe": (
        lambda drop: in_stanza(Tuning, {"points": [{"budget": 0.5}, {"max_accuracy_drop": drop}]}),
        "key 'dynamic_exit.tuning.points.1.max_accuracy_drop' ",
    ),
    "wish": (lambda drop: file_of().nearest(max_accuracy_drop=drop), "max_accuracy_drop "),
}


@pytest.mark.parametrize("door", DROP_DOORS)
@pytest.mark.parametrize(("drop", "said"), DOUBTS[:-1], ids=[f"{row[0]}" for row in DOUBTS[:-1]])
def test_drops_that_cannot_be_meant(door, drop, said):
    ask, before = DROP_DOORS[door]
    with pytest.raises(DynamicExitError) as refused:
        ask(drop)
    assert str(refused.value) == before + said


@pytest.mark.parametrize(("drop", "said"), DOUBTS, ids=[f"{row[0]}" for row in DOUBTS])
def test_the_sentence_of_a_doubt(drop, said):
    assert explain_excessive_drop(drop) == said


@pytest.mark.parametrize("drop", [-0.5, 0, 0.0, 1e-9, 0.005, 0.2, np.float32(0.2), float("nan")])
def test_drops_that_can_be_meant(drop):
    assert explain_excessive_drop(drop) is None


@pytest.mark.parametrize("loss", [1, 0.5, 5.0])
def test_losses_of_a_score_that_cannot_be_meant(loss):
    with pytest.raises(PassError) as refused:
        by_strategy(loss)
    assert str(refused.value) == f"`tolerable_loss` {explain_excessive_drop(loss, '%')}"


def test_a_drop_in_memory_that_cannot_be_meant():
    with pytest.raises(DynamicExitError, match=r"max_accuracy_drop' is 1, which allows a loss of 100 points; did you"):
        in_memory(1)


@pytest.mark.parametrize(("budget", "said"), BUDGET_DOUBTS, ids=[f"{row[0]}" for row in BUDGET_DOUBTS])
def test_budgets_that_cannot_be_meant(budget, said):
    with pytest.raises(RecipeError) as refused:
        in_stanza(Tuning, {"points": [{"budget": budget}]})
    assert str(refused.value) == f"key 'dynamic_exit.tuning.points.0.budget' {said}"
    with pytest.raises(OperatingPointError) as refused:
        file_of().nearest(budget=budget)
    assert str(refused.value) == f"budget {said}"


def test_the_limits_can_be_meant_and_stand_in_the_schema():
    assert PointGoal(max_accuracy_drop=0.2).max_accuracy_drop == 0.2 and PointGoal(budget=1.0).budget == 1.0
    limits = PointGoal.model_json_schema()["properties"]
    assert limits["max_accuracy_drop"]["anyOf"][0]["maximum"] == 0.2 and limits["budget"]["anyOf"][0]["maximum"] == 1


def test_a_file_with_a_large_drop_is_read():
    goal = Goal(max_accuracy_drop=0.5)
    made = file_of(point("bold", 0.1, goal=goal))
    assert OperatingPoints.from_json(made.to_json()) == made
