"""A saver that is better than the backbone takes its place where the recipe says so; the backbone is not shipped."""

import re

import onnx
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from dynamic_exit import load_runner
from dynamic_exit.errors import RecipeError
from dynamic_exit.pipeline.run import run
from dynamic_exit.recipe import read_recipe

CHANGES = {
    "dynamic_exit__tiny_saver__replace_backbone": True,
    "dynamic_exit__tiny_saver__max_savers": 2,
    "dynamic_exit__early_exit": {"count": 1, "training": {"epochs": 1}},
    "dynamic_exit__tuning__points": [{"budget": 0.02, "name": "frugal"}],
}


def build(folder, spoilt):
    """Write the tiny recipe; the head of a spoilt backbone is noise above all."""
    path = tiny.build(folder, **CHANGES)
    if spoilt:
        weights = folder / "backbone.safetensors"
        state = load_file(weights)
        noise = torch.randn(state["head.2.weight"].shape, generator=torch.Generator().manual_seed(0))
        state["head.2.weight"] += 5 * noise * state["head.2.weight"].std()
        save_file(state, weights)
    return path


@pytest.fixture(scope="module")
def replaced(tmp_path_factory):
    return run(read_recipe(build(tmp_path_factory.mktemp("replaced"), spoilt=True)))


def test_the_file_answers_as_the_saver_and_holds_no_backbone(replaced):
    inputs, labels = tiny.samples("test")
    runner = load_runner(replaced.folder, operating_point="backbone")
    logits = runner(inputs).logits
    with torch.no_grad():
        alone = tiny.saver(2)(torch.from_numpy(inputs)).numpy()
    assert (logits.argmax(1) == alone.argmax(1)).mean() > 0.97, "int8 rounds"
    assert replaced.points.baseline.accuracy == (logits.argmax(1) == labels).mean()
    graph = onnx.load(replaced.folder / "model.onnx").graph
    inside = [node for each in graph.node for attribute in each.attribute for node in attribute.g.node]
    convolutions = [node for node in (*graph.node, *inside) if "Conv" in node.op_type]
    assert len(convolutions) <= 2, "the backbone has four, each saver one"


def test_figures_say_what_stands_where(replaced):
    metrics = replaced.metrics
    first, second = metrics.rows[:2]
    assert (first.name, second.name) == ("backbone, float", "saver2, in its place")
    assert second.cost_ratio == 1 < first.cost_ratio
    assert second.accuracy > first.accuracy + 0.05
    assert replaced.points.baseline.cost * first.cost_ratio == pytest.approx(metrics.baseline_cost)
    (note,) = [note for note in metrics.notes if "stands in the place of the backbone" in note]
    assert re.match(r"saver2 stands .* \+\d+\.\d ± \d+\.\d on 150 test samples", note)
    assert not any("deploy it alone" in note for note in metrics.notes), "it is"


def test_goals_stay_relative_to_the_backbone(replaced):
    points = replaced.points
    assert [point.goal.model_dump() for point in points.points] == [{"max_accuracy_drop": 0.01}, {"budget": 0.02}]
    backbone, row = replaced.metrics.rows[0], replaced.metrics.rows[2]
    assert row.accuracy_drop == pytest.approx(points.baseline.accuracy - row.accuracy)
    assert row.accuracy >= backbone.accuracy - 0.05
    assert points.by_name("frugal").cost <= 0.02 * replaced.metrics.baseline_cost * (1 + 1e-9)


def test_a_backbone_that_is_better_stays(tmp_path, ran):
    path = build(tmp_path, spoilt=False)
    result = run(read_recipe(path))
    assert result.metrics.rows[1].name == "backbone, int8"
    assert result.points.baseline == ran.result.points.baseline


def test_not_while_the_backbone_is_searched(tmp_path):
    path = tiny.build(tmp_path, **CHANGES, dynamic_exit__tuning__static_search={"quantization": ["int8"]})
    with pytest.raises(RecipeError, match="replace_backbone.*static_search.*keep one"):
        read_recipe(path)
