"""A larger backbone for what a model costs today: known answers by brute force, and what is refused."""

import dataclasses
import re

import numpy as np
import pytest
import widths

from dynamic_exit import load_runner
from dynamic_exit.analysis.plan import plan
from dynamic_exit.analysis.validate import validate
from dynamic_exit.candidates.backbones import survey_backbones
from dynamic_exit.core.cache import Cache
from dynamic_exit.errors import ModelError, RecipeError, TuningError
from dynamic_exit.guarantee import describe_unmet_requirements
from dynamic_exit.pipeline import load_run_inputs, tune_points
from dynamic_exit.pipeline.points import judged
from dynamic_exit.pipeline.run import run
from dynamic_exit.pipeline.unchanged import find_unchanged
from dynamic_exit.pipeline.upgrade import search_backbones
from dynamic_exit.recipe import read_recipe

TODAY, SAVER, LARGER = 60, 16, (120, 300)
MACS = {width: 74 * width for width in (TODAY, SAVER, *LARGER)}


def answers(width, split):
    """Confidences and whether the answer is right, both (N,), of a model alone, in numpy."""
    inputs, labels = widths.samples(split)
    state = {name: value.numpy().astype(np.float64) for name, value in widths.state(width).items()}
    hidden = np.maximum(inputs.reshape(len(inputs), -1) @ state["hidden.weight"].T + state["hidden.bias"], 0)
    logits = hidden @ state["head.weight"].T + state["head.bias"]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).max(axis=1), logits.argmax(axis=1) == labels


def best_accuracy(before, last, budget):
    """The most that a chain can be right on calibration samples, of all thresholds of at most two stages before.

    The mean cost and two standard errors of it are to keep the budget.
    """
    samples = {width: answers(width, "calibration") for width in (*before, last)}
    number, best = len(samples[last][0]), 0.0
    for first, *second in [(one,) for one in before] + [(one, two) for one in before for two in before if one < two]:
        confidence, correct = samples[first]
        order = np.argsort(-confidence)
        for left in range(number + 1):
            rest, right = order[left:], correct[order[:left]].sum()
            costs = np.cumsum([MACS[first], *(MACS[each] for each in second), MACS[last]])[[0, -2, -1]]
            if second:
                rest = rest[np.argsort(-samples[second[0]][0][rest])]
                here = np.concatenate([[0], samples[second[0]][1][rest].cumsum()])
            else:
                here = np.zeros(1)
            behind = samples[last][1][rest].sum() - np.concatenate([[0], samples[last][1][rest].cumsum()])
            gone = np.arange(len(here))
            shares = np.stack([np.full(len(here), left), gone, len(rest) - gone]) / number
            mean = costs @ shares
            most = mean + 2 * np.sqrt(np.maximum(costs**2 @ shares - mean**2, 0) / number)
            total = np.where(most <= budget * MACS[TODAY], right + here + behind[: len(here)], 0)
            best = max(best, total.max() / number)
    return best


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return read_recipe(widths.build(tmp_path_factory.mktemp("upgraded"), TODAY, LARGER, (SAVER,)))


@pytest.fixture(scope="module")
def result(recipe):
    return run(recipe)


def test_every_backbone_gets_the_best_thresholds_for_the_price_of_today(result):
    found = {each.name: each for each in result.metrics.upgrade.backbones}
    known = {f"wide{width}": best_accuracy((SAVER, TODAY), width, 1.0) for width in LARGER}
    for name, best in known.items():
        assert best - 0.012 <= found[name].accuracy <= best + 0.002, "the search goes by the mean alone, step by step"
    assert [each.name for each in found.values() if each.chosen] == [max(known, key=known.__getitem__)]
    assert {name: each.cost_ratio for name, each in found.items()} == {"wide120": 2.0, "wide300": 5.0}
    for width in LARGER:
        assert found[f"wide{width}"].alone == pytest.approx(answers(width, "calibration")[1].mean(), abs=0.002)


def test_figures_are_those_of_the_file_on_test_samples(result):
    inputs, labels = widths.samples("test")
    served = load_runner(result.folder)(inputs)
    right, today = served.logits.argmax(1) == labels, answers(TODAY, "test")[1]
    paid = np.array([MACS[SAVER], MACS[SAVER] + MACS[TODAY], MACS[SAVER] + MACS[TODAY] + MACS[120]])
    (point,) = result.metrics.upgrade.points
    assert point.accuracy == right.mean()
    assert point.accuracy_gain == pytest.approx(right.mean() - today.mean(), abs=0.002)
    assert point.cost_ratio == pytest.approx(paid[served.exit_index].mean() / MACS[TODAY])
    assert point.accuracy_gain_standard_error == pytest.approx((today * 1.0 - right).std() / np.sqrt(547), rel=0.1)
    assert (point.name, point.budget, point.guarantee) == ("upgrade-100%", 1.0, None)


def test_the_verdict_stands_in_notes_report_and_card(result):
    (point,) = result.metrics.upgrade.points
    assert re.fullmatch(
        r"upgrade-100%: for [01]\.\d\d ± 0\.\d\dx of what 'wide60' costs today, "
        r"accuracy (?:rises|falls|stays) from 9\d\.\d% to 9\d\.\d% \([+-]\d\.\d ± \d\.\d points\), "
        r"measured on 547 test samples; nothing is guaranteed",
        point.verdict,
    )
    assert result.metrics.notes[0] == point.verdict
    page = (result.folder / "report.html").read_text()
    told = point.verdict.removeprefix("upgrade-100%: f").replace("'", "&#39;")
    assert f'<p class="verdict">F{told}.</p>' in page and "Backbones of the upgrade" in page
    assert point.verdict in (result.folder / "README.md").read_text()


def test_the_recipe_that_is_written_leads_to_this_chain_alone(result, recipe):
    written = read_recipe(result.folder / "recipe.yaml")
    assert (written.model.stage_name, written.upgrade) == ("wide120", None)
    assert [each.stage_name for each in written.dynamic_exit.tiny_saver.models] == ["wide60", "wide16"]
    (goal,) = written.dynamic_exit.tuning.goals
    assert goal.name == "upgrade-100%" and 0.4 < goal.budget < 0.5, "today's cost is half of the backbone's"
    assert written.dynamic_exit.tuning.default_goal == load_runner(result.folder).operating_point.name == "upgrade-100%"
    assert find_unchanged(recipe).points == result.points


def test_a_guarantee_that_is_required_is_missed_in_words(result):
    (point,) = result.metrics.upgrade.points
    assert describe_unmet_requirements(result.points, guarantee=True, unpromised=[point.name]) == (
        "what is required was missed: no guarantee: upgrade-100%"
    )
    assert describe_unmet_requirements(result.points, unpromised=[point.name]) == "", "nobody asked for one"


def search(path):
    recipe = read_recipe(path)
    work = path.parent / "work"
    return search_backbones(load_run_inputs(recipe), Cache(None), lambda: work, False)


@pytest.fixture(scope="module")
def promised(tmp_path_factory):
    path = widths.build(
        tmp_path_factory.mktemp("promised"), TODAY, LARGER[:1], (SAVER,), dynamic_exit__tuning__guarantee=0.9
    )
    recorded, found = search(path)
    recorded = judged(recorded)
    return recorded, found, tune_points(recorded)


@pytest.mark.parametrize("right", [False, True])
def test_a_guarantee_goes_by_samples_that_decided_nothing(promised, right):
    recorded, found, points = promised
    # what today's model is taken to answer where thresholds were searched must not matter
    today, half = found.today.calibration.copy(), np.random.default_rng(1).permutation(550)
    today[half[:275]] = not right
    today[half[275:]] = right
    found = dataclasses.replace(found, today=dataclasses.replace(found.today, calibration=today))
    (point,) = found.figures(recorded, points).points
    assert point.guarantee == (None if right else 0.9)
    assert point.verdict.endswith(
        "no guarantee: its calibration samples do not show with probability 0.9 that it is right at least as often as "
        "today"
        if right
        else "with probability 0.9 it is right at least as often as today on samples like these"
    )


def test_no_guarantee_is_stated_where_test_samples_are_of_another_kind(promised):
    recorded, found, points = promised
    sure = np.sort(np.argsort(-recorded.calibration.topk_probabilities[0, :, 0])[:200])
    recorded = recorded._replace(test=recorded.calibration.take(sure))
    today = dataclasses.replace(found.today, calibration=np.zeros(550, bool), test=np.zeros(200, bool))
    (point,) = dataclasses.replace(found, today=today).figures(recorded, points).points
    assert point.guarantee is None
    assert point.verdict.endswith("; no guarantee: calibration and test samples differ")


def test_in_seconds_the_budget_is_over_what_today_takes(tmp_path):
    path = widths.build(tmp_path, 300, (3000,), (6,), dynamic_exit__tuning__cost="latency")
    recorded, found = search(path)
    (goal,) = recorded.build.run_inputs.recipe.dynamic_exit.tuning.goals
    (backbone,) = found.backbones
    share = found.today.cost / recorded.calibration.baseline_cost
    assert recorded.calibration.cost_unit == "seconds"
    assert backbone.cost_ratio == pytest.approx(1 / share)
    assert 0 < goal.budget <= share * (1 + 1e-9)


def test_a_plan_and_a_check_know_every_backbone(recipe, tmp_path):
    found = plan(recipe)
    assert [(row["backbone"], row["ratio"]) for row in found["upgrade"]] == [("wide120", 2.0), ("wide300", 5.0)]
    assert [row["stage"] for row in found["candidates"]] == ["wide16", "wide60"]
    path = widths.build(tmp_path, TODAY, LARGER, (SAVER,))
    checked = validate(path, {})
    assert (checked.faults, checked.candidates) == ([], 2)
    (tmp_path / "300.safetensors").unlink()
    (fault,) = validate(path, {}).faults
    assert "300.safetensors' do not exist" in fault.message and fault.key == "upgrade.backbones.1.weights"


@pytest.mark.parametrize(
    ("larger", "changes", "message"),
    [
        (
            (40,), {},
            "key 'upgrade.backbones': 'wide40' costs 0.667 of what the model costs today, so that it fits the budget "
            "alone; deploy it as it is, or give larger ones",
        ),
        (
            LARGER, {"upgrade__backbones__0__weights": None},
            r"key 'upgrade\.backbones': 'wide120' is not trained: .*; give it `weights`",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_an_upgrade_is_refused(tmp_path, larger, changes, message):
    recipe = read_recipe(widths.build(tmp_path, TODAY, larger, (SAVER,), **changes))
    with pytest.raises(ModelError, match=message):
        survey_backbones(load_run_inputs(recipe), Cache(None))


def test_a_backbone_of_other_classes_is_refused(tmp_path):
    path = widths.build(
        tmp_path, TODAY, LARGER, (SAVER,), upgrade__backbones__0__arguments={"width": 120, "classes": 7}
    )
    widths.save(tmp_path, 120, classes=7)
    with pytest.raises(
        ModelError, match="'wide120' cannot take the place of the model: .* has 7 classes and the .* 10"
    ):
        survey_backbones(load_run_inputs(read_recipe(path)), Cache(None))
    (fault,) = validate(path, {}).faults
    assert fault.key == "upgrade.backbones"


def test_a_budget_that_no_chain_keeps_is_refused(tmp_path):
    path = widths.build(tmp_path, TODAY, LARGER[:1], (SAVER,), dynamic_exit__tuning__points=[{"budget": 0.1}])
    with pytest.raises(TuningError, match=r"^no chain keeps the budget, which is over .* \('wide120': no stage fits"):
        search(path)


def test_models_in_memory_are_refused(recipe, tmp_path):
    with pytest.raises(RecipeError, match="`upgrade` takes models and data from the recipe alone"):
        run(
            recipe.model_copy(update={"export": recipe.export.model_copy(update={"directory": str(tmp_path / "out")})}),
            splits=load_run_inputs(recipe).splits,
        )
