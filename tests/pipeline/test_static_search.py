"""The search over static choices: which it tries, what it skips and why, and what it writes."""

import json

import numpy as np
import pytest
import tiny
import torch
import yaml
from log_lines import log_lines

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.errors import RecipeError, TuningError
from dynamic_exit.modeling import AutoDynamicExitModel
from dynamic_exit.pipeline.run import run
from dynamic_exit.points import goal_limits
from dynamic_exit.points.goal import Goal
from dynamic_exit.recipe import parse_recipe, read_recipe
from dynamic_exit.records import Records
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.tuning.optimizer import optimize

TRAINED = {"epochs": 15, "learning_rate": 0.01}
# untrained afterwards, a backbone of so few channels loses more than any drop allows
RUINED = {"ratio": 0.8, "fine_tune": {"epochs": 0}}
SEARCH = {"pruning": [0, {"ratio": 0.2}, RUINED]}


def build(folder, search=SEARCH, **changes):
    defaults = {
        "pruning": {"fine_tune": TRAINED},
        "quantization": None,
        "dynamic_exit__early_exit": None,
        "dynamic_exit__tuning": {
            "max_accuracy_drop": 0.05,
            "points": [{"max_accuracy_drop": 0.0}, {"budget": 0.9, "name": "frugal"}],
            "static_search": search,
        },
    }
    return tiny.build(folder, **defaults | changes)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """The tiny recipe, searched over three prunings, and what it logged."""
    path = build(tmp_path_factory.mktemp("searched"))
    with log_lines() as said:
        return path, run(read_recipe(path)), said


def test_the_budget_counts_against_the_backbone_as_it_was_given(searched):
    _, result, _ = searched
    found = result.metrics.static_search
    inputs, labels = tiny.samples("test")
    given = float((_answers(inputs) == labels).mean())
    assert found.given.accuracy == pytest.approx(given)
    inputs, labels = tiny.samples("calibration")
    given = float((_answers(inputs) == labels).mean())
    assert found.given.calibration_accuracy == pytest.approx(given)
    chosen = [row for row in found.variants if row.chosen]
    assert len(chosen) == 1 and chosen[0].accuracy >= given - 0.05
    # the written records, at the written point, and the costs, are those of the table
    records = Records.read(result.folder / "records.npz")
    for point, row in zip(result.points.points, found.points, strict=True):
        assert row.cost_ratio == pytest.approx(point.cost / found.given.cost)
        assert row.accuracy_drop == pytest.approx(found.given.accuracy - point.accuracy)
    # the table's figures are for the default goal alone; what is left for optimism depends on other goals, too
    default, seed = result.points.by_name("accuracy-drop-5%"), result.metrics.seed
    shift = found.given.calibration_accuracy - chosen[0].backbone_accuracy
    (alone,) = optimize(records, [Goal(max_accuracy_drop=0.05 - shift)], SearchOptions(fuse=default.fuse, seed=seed))
    assert evaluate(records, alone).cost == pytest.approx(chosen[0].cost)
    assert evaluate(records, alone).accuracy == pytest.approx(chosen[0].accuracy)


def test_points_hold_the_goals_that_the_user_wrote(searched):
    """They count against the backbone as it was given; the search shifts them for itself alone."""
    _, result, _ = searched
    written = json.loads((result.folder / "operating_points.json").read_text())["points"]
    wanted = [{"max_accuracy_drop": 0.05}, {"max_accuracy_drop": 0.0}, {"budget": 0.9}]
    assert [point["goal"] for point in written] == wanted
    (chosen,) = (row for row in result.metrics.static_search.variants if row.chosen)
    assert chosen.backbone_cost_ratio < 0.9, "so that a budget of the chosen backbone's would be another number"
    assert result.metrics.static_search.points[2].cost_ratio <= 0.9


def test_what_a_goal_allows_is_judged_against_the_backbone_as_it_was_given(searched):
    _, result, _ = searched
    inputs, labels = tiny.samples("test")
    given, model = _answers(inputs) == labels, AutoDynamicExitModel.from_pretrained(result.folder)
    rows = {row.name: row for row in result.metrics.rows}
    allowed = {"accuracy-drop-5%": 0.05, "accuracy-drop-0%": 0.0, "frugal": None}
    for row in result.metrics.static_search.points:
        model.set_operating_point(row.name)
        right = model(inputs).logits.argmax(1) == labels
        error = np.std(given.astype(float) - right) / np.sqrt(len(labels))
        assert row.accuracy_drop_standard_error == pytest.approx(error)
        assert rows[row.name].allowed_drop == allowed[row.name]
        beyond = row.accuracy_drop - (allowed[row.name] or 0.0) > 2 * max(error, 1 / len(labels))
        assert rows[row.name].contradicted == (beyond and allowed[row.name] is not None)


def _answers(inputs):
    with torch.no_grad():
        return tiny.backbone()(torch.from_numpy(inputs)).argmax(1).numpy()


def test_every_choice_is_listed_and_the_cheapest_that_was_tried_is_chosen(searched):
    _, result, said = searched
    rows = result.metrics.static_search.variants
    assert [row.pruning for row in rows] == ["none", "ratio 0.2", "ratio 0.8, fine_tune {'epochs': 0}"]
    tried = [row for row in rows if row.cost is not None]
    (chosen,) = (row for row in rows if row.chosen)
    assert chosen.cost == min(row.cost for row in tried)
    assert all(row.why.startswith(("chosen", "tried", "not tried", "left out")) for row in rows)
    # a backbone that loses more than the budget with evidence costs no further work
    lost = rows[2]
    assert lost.cost is None and "its backbone alone loses" in lost.why
    assert any(lost.why in line for line in said)
    report = (result.folder / "report.html").read_text()
    assert "Static choices" in report and "ratio 0.2" in report


def test_the_written_recipe_leads_to_the_same_stack_alone(searched, tmp_path):
    path, result, _ = searched
    written = yaml.safe_load((result.folder / "recipe.yaml").read_text())
    (chosen,) = (row for row in result.metrics.static_search.variants if row.chosen)
    assert (written["pruning"] is None) == (chosen.pruning == "none")
    again = run(read_recipe(result.folder / "recipe.yaml", {"export.directory": str(tmp_path / "again")}))
    assert again.points.to_json() == result.points.to_json()
    assert [row.chosen for row in again.metrics.static_search.variants] == [True]


def test_one_cost_for_all_quantizations_seconds_in_turn(tmp_path):
    search = {"pruning": [0], "quantization": ["none", "static_quant"]}
    tuning = {"max_accuracy_drop": 0.05, "cost": "latency", "static_search": search}
    result = run(read_recipe(build(tmp_path, dynamic_exit__tuning=tuning)))
    rows = result.metrics.static_search.variants
    assert result.metrics.static_search.cost_unit == "seconds"
    assert [row.quantization for row in rows] == ["none", "static_quant"]
    assert all(row.backbone_cost_ratio > 0 for row in rows) and sum(row.chosen for row in rows) == 1
    beaten = [row for row in rows if row.why.startswith("not tried")]
    for row in beaten:
        assert any(
            other.backbone_cost_ratio <= row.backbone_cost_ratio and other.backbone_accuracy >= row.backbone_accuracy
            for other in rows
            if other is not row
        )


def test_where_no_choice_keeps_the_drop_the_run_says_what_each_lost(tmp_path):
    path = build(tmp_path, {"pruning": [RUINED]})
    with pytest.raises(TuningError, match=r"keeps the accuracy drop at or under 0.05: pruning ratio 0.8.*loses"):
        run(read_recipe(path))
    assert not (tmp_path / "out").exists()


def test_a_point_out_of_the_stacks_reach_is_left_out_and_said(tmp_path, monkeypatch):
    """Pruned by force, no stack is as good as the given backbone: the default is reached, the stricter point is not."""
    monkeypatch.setattr(goal_limits, "LARGEST_DROP", 1.0)  # so that the ruin is allowed
    tuning = {
        "max_accuracy_drop": 0.9,
        "points": [{"max_accuracy_drop": 0.0}],
        "static_search": {"pruning": [RUINED]},
    }
    result = run(read_recipe(build(tmp_path, dynamic_exit__tuning=tuning)))
    assert result.points.names == ("accuracy-drop-90%",)
    assert [note for note in result.metrics.notes if note.startswith("accuracy-drop-0%: left out")]


@pytest.mark.parametrize(
    ("search", "tuning", "message"),
    [
        ({"pruning": [0, 0.3, 0.3]}, {}, "names the choice 'ratio 0.3' twice"),
        ({"pruning": [1.3]}, {}, r"pruning.0.ratio' must be less than 1"),
        ({"pruning": [{"ratoi": 0.3}]}, {}, "unknown key 'dynamic_exit.tuning.static_search.pruning.0.ratoi'"),
        ({"pruning": []}, {}, "at least 1 item"),
        ({"prunning": [0]}, {}, "did you mean 'pruning'"),
        ({"quantization": ["static_qant"]}, {}, "'static_qant'; did you mean 'static_quant'"),
        ({"quantization": ["none", "static_quant"]}, {}, "set dynamic_exit.tuning.cost to latency"),
        (
            {"quantization": [{"static_quant": {"act_alg": "kl"}}]},
            {},
            "unknown key 'quantization.static_quant.act_alg'",
        ),
        ({"quantization": [{}]}, {}, "must name one algorithm; got nothing"),
        ({"quantization": ["hqq"]}, {}, "cannot be exported"),
    ],
)
def test_contradictions_and_misspelt_choices_are_refused_before_anything_is_done(tmp_path, search, tuning, message):
    values = tiny.recipe(dynamic_exit__tuning={"static_search": search, **tuning})
    with pytest.raises(RecipeError, match=message):
        parse_recipe(values, tmp_path)


def test_choices_stand_over_the_recipes_own_stanzas(tmp_path):
    values = tiny.recipe(
        dynamic_exit__tuning={
            "cost": "latency",
            "static_search": {"pruning": [0, 0.5, {"target_cost": 0.7}], "quantization": ["none", "static_quant"]},
        }
    )
    values["quantization"] = {"static_quant": {"act_algo": "kl"}}
    values = {"pruning": {"ratio": 0.1, "fine_tune": {"epochs": 7}}, **values}
    choices = parse_recipe(values, tmp_path).choices
    assert len(choices) == 6
    assert choices[0].pruning is None and choices[0].quantization is None
    assert choices[2].pruning.ratio == 0.5 and choices[2].pruning.fine_tune.epochs == 7
    assert choices[4].pruning.ratio is None and choices[4].pruning.target_cost == 0.7
    assert choices[1].quantization == {"static_quant": {"act_algo": "kl"}}


def test_the_recipes_own_algorithms_are_the_choices_where_none_are_named(tmp_path):
    values = tiny.recipe(dynamic_exit__tuning={"cost": "latency", "static_search": {}})
    assert [choice.names for choice in parse_recipe(values, tmp_path).choices] == [("none", "static_quant")]
    values["quantization"]["rtn"] = None
    names = [choice.names[1] for choice in parse_recipe(values, tmp_path).choices]
    assert names == ["static_quant", "rtn", "none"]
