import json

import numpy as np
import onnx
import onnxruntime
import pytest
import tiny
import torch
import yaml

from dynamic_exit.errors import TuningError
from dynamic_exit.pipeline.run import run
from dynamic_exit.points.operating_point import OperatingPoints, point_thresholds
from dynamic_exit.recipe import read_recipe
from dynamic_exit.records import Records

FILES = {
    "README.md", "config.json", "metrics.json", "model.onnx", "operating_points.json", "recipe.yaml", "records.npz",
    "examples.json", "reference.json", "report.html", "run.log",
}  # fmt: skip


@pytest.fixture(scope="module")
def session(ran):
    return onnxruntime.InferenceSession(str(ran.folder / "model.onnx"), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def chain(session):
    return tuple(json.loads(session.get_modelmeta().custom_metadata_map["stages"]))


def answers(session, inputs, thresholds, batch_size=64):
    batches = [
        session.run(None, {"input": inputs[i : i + batch_size], "thresholds": np.float32(thresholds)})
        for i in range(0, len(inputs), batch_size)
    ]
    return [np.concatenate(parts) for parts in zip(*batches, strict=True)]


def test_the_tiny_world_is_worth_testing(ran, chain):
    """Several stages answer, at points that differ, so that the tests below can tell right from wrong."""
    points = ran.result.points.points
    assert chain == ("saver2", "block1:linear", "block3:linear")
    assert len({point.stages for point in points}) == 3
    assert all(sum(rate > 0.05 for rate in point.exit_rates.values()) >= 2 for point in points)
    assert ran.result.points.baseline.accuracy > 0.9


def test_the_folder_holds_what_it_promises(ran):
    assert {path.name for path in ran.folder.iterdir()} == FILES
    assert not ran.folder.with_name("out.partial").exists()


def test_points_are_those_of_the_recipe(ran):
    points = OperatingPoints.read(ran.folder / "operating_points.json")
    assert points == ran.result.points
    assert [(point.name, point.goal.max_accuracy_drop, point.goal.budget) for point in points.points] == [
        ("accuracy-drop-1%", 0.01, None),
        ("accuracy-drop-10%", 0.1, None),
        ("frugal", None, 0.03),
    ]
    assert points.by_name("frugal").cost_ratio < points.by_name("accuracy-drop-1%").cost_ratio < 1


def test_figures_are_what_onnxruntime_answers_on_the_test_split(ran, session, chain):
    inputs, labels = tiny.samples("test")
    for point in ran.result.points.points:
        logits, exits, _ = answers(session, inputs, point_thresholds(point, chain))
        assert point.accuracy == (logits.argmax(1) == labels).mean()
        assert point.samples == len(labels)
        rates = {stage: (exits == index).mean() for index, stage in enumerate((*chain, "final"))}
        assert {stage: rate for stage, rate in rates.items() if rate} == {
            s: r for s, r in point.exit_rates.items() if r
        }
    logits, exits, _ = answers(session, inputs, [np.inf] * len(chain))
    assert ran.result.points.baseline.accuracy == (logits.argmax(1) == labels).mean()
    assert (exits == len(chain)).all()


def test_costs_are_those_of_the_stages_at_their_exit_rates(ran):
    """By hand: who leaves at a stage has paid every stage in use up to there, and the backbone before it."""
    records = Records.read(ran.folder / "records.npz")
    own, prefix = (dict(zip(records.stages, cost, strict=True)) for cost in (records.own_cost, records.prefix_cost))
    # multiply-adds by hand: 36 pixels; 9 weights for each pair of channels of a 3 x 3 convolution
    blocks = np.cumsum([36 * 9 * pair for pair in (1 * 2, 2 * 4, 4 * 8, 8 * 8)])
    assert prefix["final"] == blocks[-1] + 4 * 8 * tiny.CLASSES
    assert (prefix["block1:linear"], prefix["block3:linear"]) == (blocks[0], blocks[2])
    assert (own["block1:linear"], own["block3:linear"]) == (2 * tiny.CLASSES, 8 * tiny.CLASSES)
    assert own["saver2"] == 9 * 9 * 2 + 9 * 2 * tiny.CLASSES
    for point in ran.result.points.points:
        cost = paid = 0.0
        for stage in [*(stage.stage for stage in point.stages), "final"]:
            paid += own[stage]
            cost += point.exit_rates[stage] * (paid + prefix[stage])
        assert point.cost == pytest.approx(cost, rel=1e-12)
        assert point.cost_ratio == pytest.approx(cost / prefix["final"], rel=1e-12)


def test_records_are_of_the_calibration_split_and_of_what_ships(ran, session, chain):
    """With one stage alone always answering, the file says what the records say of it."""
    records = Records.read(ran.folder / "records.npz")
    inputs, labels = tiny.samples("calibration")
    assert (records.labels == labels).all()
    for index, stage in enumerate((*chain, "final")):
        logits, exits, confidence = answers(session, inputs, [-1 if s == stage else np.inf for s in chain])
        assert (exits == index).all()
        row = records.index(stage)
        assert (records.topk_classes[row, :, 0] == logits.argmax(1)).all()
        assert np.abs(records.topk_probabilities[row, :, 0] - confidence).max() < 1e-6


def test_savers_and_exits_stand_at_their_positions(ran):
    records = Records.read(ran.folder / "records.npz")
    assert dict(zip(records.stages, records.positions.tolist(), strict=True)) == {
        "saver2": -1,
        "block1:linear": 0,
        "block3:linear": 2,
        "final": 3,
    }


@pytest.mark.parametrize("size", [1, 2, 7])
def test_batch_sizes_give_the_same_answers(ran, session, chain, size):
    inputs = tiny.samples("test")[0][:50]
    for point in (*ran.result.points.points, ran.result.points.backbone):
        thresholds = point_thresholds(point, chain)
        one, other = (answers(session, inputs, thresholds, each) for each in (64, size))
        assert (one[1] == other[1]).all()
        for a, b in ((one[0], other[0]), (one[2], other[2])):
            assert np.abs(a - b).max() < 1e-5


def test_all_off_is_torchs_backbone(ran_float):
    """In float, what the folder answers with every stage off is what the user's model answers in torch."""
    session = onnxruntime.InferenceSession(str(ran_float.folder / "model.onnx"), providers=["CPUExecutionProvider"])
    stages = json.loads(session.get_modelmeta().custom_metadata_map["stages"])
    inputs = tiny.samples("test")[0]
    logits, exits, confidence = answers(session, inputs, [np.inf] * len(stages))
    with torch.no_grad():
        probabilities = torch.softmax(tiny.backbone()(torch.from_numpy(inputs)), 1).numpy()
    assert (exits == len(stages)).all()
    assert (logits.argmax(1) == probabilities.argmax(1)).all()
    assert np.abs(confidence - probabilities.max(1)).max() < 1e-5


def test_fused_evidence_is_the_mean_of_what_was_seen(ran_float):
    """By hand in torch: the saver's and the backbone's own probabilities, averaged."""
    assert {point.fuse for point in ran_float.result.points.points} == {"mean"}
    session = onnxruntime.InferenceSession(str(ran_float.folder / "model.onnx"), providers=["CPUExecutionProvider"])
    stages = json.loads(session.get_modelmeta().custom_metadata_map["stages"])
    inputs = tiny.samples("test")[0]
    with torch.no_grad():
        saver, final = (
            torch.softmax(model(torch.from_numpy(inputs)), 1).numpy() for model in (tiny.saver(2), tiny.backbone())
        )
    thresholds = [0.9 if stage == "saver2" else np.inf for stage in stages]
    logits, exits, confidence = answers(session, inputs, thresholds)
    leaves = saver.max(1) > 0.9
    assert 0.2 < leaves.mean() < 0.9
    assert ((exits == 0) == leaves).all()
    evidence = np.where(leaves[:, None], saver, (saver + final) / 2)
    assert (logits.argmax(1) == evidence.argmax(1)).all()
    assert np.abs(confidence - evidence.max(1)).max() < 1e-5


def test_int8_ships_in_int8(ran, ran_float):
    kinds = [
        {node.op_type for node in _nodes(onnx.load(each.folder / "model.onnx").graph)} for each in (ran, ran_float)
    ]
    assert "QuantizeLinear" in kinds[0]
    assert "QuantizeLinear" not in kinds[1]


def _nodes(graph):
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


def test_verification_found_nothing_apart(ran, ran_float):
    for each in (ran, ran_float):
        for agreement in each.result.metrics.verification.values():
            assert agreement.samples == tiny.SIZES["test"]
            assert agreement.points == len(each.result.points.points) + 1
            assert (agreement.exits_apart, agreement.predictions_apart) == (0, 0)
            assert agreement.largest_difference <= 1e-4


def test_metrics_hold_rows_for_backbones_and_points(ran, ran_float):
    points = [point.name for point in ran.result.points.points]
    metrics = json.loads((ran.folder / "metrics.json").read_text())
    assert metrics == ran.result.metrics.to_dict()
    assert (metrics["_type"], metrics["_version"]) == ("dynamic_exit.metrics", 1)
    assert [row["name"] for row in metrics["rows"]] == ["backbone, float", "backbone, int8", *points]
    assert [row.name for row in ran_float.result.metrics.rows][:2] == ["backbone, float", "accuracy-drop-1%"]
    assert metrics["samples"] == tiny.SIZES
    inputs, labels = (torch.from_numpy(array) for array in tiny.samples("test"))
    with torch.no_grad():
        right = (tiny.backbone()(inputs).argmax(1) == labels).double().mean().item()
    assert metrics["rows"][0]["accuracy"] == right
    for row, point in zip(metrics["rows"][2:], ran.result.points.points, strict=True):
        assert (row["accuracy"], row["cost_ratio"]) == (point.accuracy, point.cost_ratio)
    for row in metrics["rows"]:
        for size in ("1", "64"):
            base = metrics["rows"][0]["seconds_per_sample"][size]["median"]
            assert row["speed_up"][size] == pytest.approx(base / row["seconds_per_sample"][size]["median"])


def test_candidates_are_told_with_the_reason(ran):
    told = {candidate.stage: candidate for candidate in ran.result.metrics.candidates}
    assert {name: candidate.chosen for name, candidate in told.items()} == {"saver2": True, "saver4": False}
    inputs, labels = (torch.from_numpy(array) for array in tiny.samples("calibration"))
    with torch.no_grad():
        alone = (tiny.saver(2)(inputs).argmax(1) == labels).double().mean().item()
    assert told["saver2"].accuracy == pytest.approx(alone, abs=0.02)  # in int8


def test_a_run_tells_its_steps(ran):
    for step in ("3 cuts found, 2 in use", "savers: saver2 out of 2 candidates", "exit block3:linear", "verified"):
        assert any(step in line for line in ran.said), step


def test_the_written_recipe_reruns_from_its_folder(ran, command):
    written = read_recipe(ran.folder / "recipe.yaml")
    assert written == read_recipe(ran.recipe)
    code, out, err = command("validate", ran.folder / "recipe.yaml")
    assert (code, err) == (0, "")
    assert "3 classes, 192 train, 160 calibration, 150 test samples, 2 candidates" in out
    values = yaml.safe_load((ran.folder / "recipe.yaml").read_text())
    assert values["dynamic_exit"]["early_exit"]["training"]["learning_rate"] > 0  # a default, written out


def test_a_failure_after_the_records_keeps_them_and_says_where(tmp_path):
    exits = {"count": 1, "training": {"epochs": 1}}
    points = [{"budget": 0.001}]
    recipe = tiny.build(
        tmp_path,
        dynamic_exit__tuning__points=points,
        dynamic_exit__tiny_saver=None,
        dynamic_exit__early_exit=exits,
        quantization=None,
    )
    with pytest.raises(TuningError) as refused:
        run(read_recipe(recipe))
    partial = tmp_path / "out.partial"
    # the head on block3 and all before it, over all: (24 + 13608) / 34440
    assert str(refused.value) == (
        "no stage fits a budget of 0.001 of the backbone's cost; the cheapest costs 0.3958 of it "
        f"(the records made so far are kept in '{partial}')"
    )
    assert not (tmp_path / "out").exists()
    assert sorted(path.name for path in partial.iterdir()) == ["records.npz", "run.log", "work"]
    assert len(Records.read(partial / "records.npz")) == tiny.SIZES["calibration"]
    assert (partial / "run.log").read_text().endswith(f" ERROR   dynamic_exit.output.run_log: {refused.value}\n")
