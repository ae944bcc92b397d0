"""Stages that no calibration sample gets to are left out of the file where the recipe says so."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tiny

from dynamic_exit import load_runner
from dynamic_exit.analysis.benchmark import benchmark_folder
from dynamic_exit.analysis.evaluate import evaluate_folder
from dynamic_exit.analysis.inspect import inspect_folder
from dynamic_exit.chain.evidence import Evidence
from dynamic_exit.chain.thresholds import Configuration
from dynamic_exit.errors import OperatingPointError
from dynamic_exit.onnx.part import Part
from dynamic_exit.pipeline.ending import drop_unreached
from dynamic_exit.pipeline.run import run
from dynamic_exit.pipeline.stages import Build, RecordedBuild
from dynamic_exit.points.goal import Goal
from dynamic_exit.points.operating_point import Baseline, OperatingPoint, OperatingPoints
from dynamic_exit.recipe import read_recipe
from dynamic_exit.records import Records
from dynamic_exit.runtime.stages import Stage, StageSet

LOOSE = {"dynamic_exit__tuning": {"max_accuracy_drop": 0.03, "points": [{"budget": 0.2, "name": "frugal"}]}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(read_recipe(tiny.build(tmp_path_factory.mktemp("whole"), **LOOSE)))


@pytest.fixture(scope="module")
def ended(tmp_path_factory, whole):
    path = tiny.build(tmp_path_factory.mktemp("ended"), **LOOSE, export__drop_unreached=True)
    return run(read_recipe(path))


@pytest.mark.parametrize("split", ["calibration", "test"])
def test_the_file_answers_as_the_whole_chain_wherever_that_ended_early(whole, ended, split):
    inputs, labels = tiny.samples(split)
    for point in ended.points.points:
        full, short = (load_runner(each.folder, point.name) for each in (whole, ended))
        expected, found = full(inputs), short(inputs)
        early = expected.exit_index < len(full.stages)
        assert early.all() or split == "test", "nobody got to the end on calibration samples"
        np.testing.assert_allclose(found.logits[early], expected.logits[early], atol=1e-5)
        np.testing.assert_array_equal(np.array([*short.stages, "block3:linear"])[found.exit_index[early]],
                                      np.array(full.stages)[expected.exit_index[early]])  # fmt: skip
        if split == "test":
            assert point.accuracy == (found.logits.argmax(1) == labels).mean()
            assert point.accuracy_drop == pytest.approx(whole.points.baseline.accuracy - point.accuracy)
            assert point.cost_ratio == pytest.approx(whole.points.by_name(point.name).cost_ratio)


def test_the_file_holds_nothing_behind_the_last_stage(whole, ended):
    sizes = [(each.folder / "model.onnx").stat().st_size for each in (ended, whole)]
    assert sizes[0] < 0.8 * sizes[1]
    assert ended.points.last_stage == "block3:linear"
    assert ended.points.baseline == whole.points.baseline, "figures stay relative to the whole backbone"
    assert "block3:linear" not in load_runner(ended.folder).stages
    assert load_runner(ended.folder).operating_point.name == "accuracy-drop-3%"


def test_the_backbone_is_no_point_of_such_a_file(ended):
    runner = load_runner(ended.folder)
    sentence = "the file does not hold the whole backbone, 'block3:linear' answers last; known are: acc.*, frugal$"
    for ask in (runner.set_operating_point, ended.points.by_name):
        with pytest.raises(OperatingPointError, match=sentence):
            ask("backbone")
    with pytest.raises(OperatingPointError, match=r"at most 0.001; known are: .*budget\)$"):
        runner.set_operating_point(max_accuracy_drop=0.001)
    assert runner.set_operating_point(budget=1.0).name != "backbone"


def test_output_report_and_card_say_so(ended, command):
    (note,) = [note for note in ended.metrics.notes if "is not in the file" in note]
    assert note.startswith(
        "at every operating point all 160 calibration samples leave at 'block3:linear' at the latest"
    )
    assert "(final)" in note and "no point 'backbone'" in note and "of 150 test samples would have gone on" in note
    assert [row.name for row in ended.metrics.rows] == ["backbone, float", "accuracy-drop-3%", "frugal"]
    assert note in (ended.folder / "README.md").read_text()
    assert "is not in the file" in (ended.folder / "report.html").read_text()
    assert inspect_folder(ended.folder)["operating_points"]["last_stage"] == "block3:linear"
    _, output, _ = command("inspect", ended.folder)
    assert "ends at:  block3:linear, which answers as final" in output


def test_commands_know_the_last_stage(whole, ended, tmp_path):
    inputs, labels = tiny.samples("test")
    np.savez(tmp_path / "test.npz", inputs=inputs, labels=labels)
    full, short = (evaluate_folder(each.folder, tmp_path / "test.npz", None, 64) for each in (whole, ended))
    assert [row["name"] for row in short] == ["accuracy-drop-3%", "frugal"]
    for row, expected in zip(short, full[1:], strict=True):
        assert row["cost_ratio"] == pytest.approx(expected["cost_ratio"])
    found = benchmark_folder(ended.folder, inputs, labels, batch_sizes=(8,), time_limit=0.1)
    assert {row["name"] for row in found["rows"]} == {"block3:linear", "accuracy-drop-3%", "frugal"}
    assert any("'block3:linear' answers last, and the first row" in note for note in found["notes"])


def test_points_of_another_end_are_refused(whole, ended, tmp_path):
    folder = shutil.copytree(ended.folder, tmp_path / "copy")
    points = json.loads((folder / "operating_points.json").read_text())
    (folder / "operating_points.json").write_text(json.dumps(points | {"last_stage": None}))
    sentence = "points are for a chain that ends at the backbone's own head, the file ends at 'block3:linear'"
    with pytest.raises(OperatingPointError, match=sentence):
        load_runner(folder)


def test_one_file_a_stage_and_a_guarantee(ended, tmp_path):
    changes = {
        "export__layout": "segments",
        "export__drop_unreached": True,
        "dynamic_exit__tuning": {"max_accuracy_drop": 0.1, "guarantee": 0.6},
    }
    result = run(read_recipe(tiny.build(tmp_path, **changes)))
    inputs, labels = tiny.samples("test")
    answer = load_runner(result.folder)(inputs)
    (point,) = result.points.points
    assert result.points.last_stage is not None
    assert point.guarantee is not None, "it was tested on samples of which none got further"
    assert point.accuracy == (answer.logits.argmax(1) == labels).mean()
    config = json.loads((result.folder / "config.json").read_text())
    assert config["last_stage"] == result.points.last_stage
    assert len(config["chain"]["segments"]) < 4


def test_a_chain_can_end_at_a_saver(tmp_path):
    changes = {
        "export__drop_unreached": True,
        "dynamic_exit__tiny_saver__fuse": "product",
        "dynamic_exit__tiny_saver__max_savers": 2,
        "dynamic_exit__tuning": {"max_accuracy_drop": 0.2, "points": [{"budget": 0.008, "name": "frugal"}]},
    }
    result = run(read_recipe(tiny.build(tmp_path, **changes)))
    assert result.points.last_stage in ("saver2", "saver4")
    inputs, labels = tiny.samples("test")
    runner = load_runner(result.folder)
    for point in result.points.points:
        runner.set_operating_point(point.name)
        assert point.accuracy == (runner(inputs).logits.argmax(1) == labels).mean()


def made(name, inputs, kind):
    return Stage(None, Part(name, None, inputs, kind), None, 0.0, None, ())


def recorded(generator, confidence, fuse):
    """Records of a saver, two exits and the final, for 200 samples each, whose true class is 0."""
    stages = StageSet(
        ("x",),
        tuple(made(f"s{place}", ("x",) if place == 0 else ("hidden",), "hidden") for place in range(3)),
        {"e": 0, "f": 1, "final": 2},
        {"a": made("a", ("x",), "logits")},
        {"e": (0, made("e", ("hidden",), "logits")), "f": (1, made("f", ("hidden",), "logits"))},
        Evidence(fuse),
    )

    def records(least, stages_agree):
        sure = generator.uniform(least, 1.0, (4, 200)).astype(np.float32)
        right = generator.random((1 if stages_agree else 4, 200, 1)) < 0.7
        return Records(
            labels=np.zeros(200, np.int64),
            stages=("a", "e", "f", "final"),
            kinds=("saver", "exit", "exit", "final"),
            positions=np.array([-1, 0, 1, 2]),
            topk_classes=np.where(np.broadcast_to(right, (4, 200, 1)), [0, 1], [1, 0]).astype(np.int32),
            topk_probabilities=np.stack([sure, 1 - sure], axis=2),
            own_cost=np.array([1.0, 0.5, 0.5, 0.0]),
            prefix_cost=np.array([0.0, 10.0, 20.0, 30.0]),
            cost_unit="macs",
        )

    return RecordedBuild(Build(None, None, None, stages, None), records(confidence, True), records(0.5, False))


def points_of(test, *configurations):
    return OperatingPoints(
        cost_unit="macs",
        baseline=Baseline(accuracy=float((test.topk_classes[-1, :, 0] == 0).mean()), cost=30.0),
        points=[
            OperatingPoint.measure(test, each, name=f"p{place}", goal=Goal(budget=0.5))
            for place, each in enumerate(configurations)
        ],
    )


@pytest.mark.parametrize("fuse", ["none", "mean", "product"])
def test_samples_that_would_have_gone_on_are_answered_by_the_last_stage(fuse):
    powers = (("a", 0.5), ("e", 2.0)) if fuse == "product" else ()
    build = recorded(np.random.default_rng(0), 0.9, fuse)
    evidence = Evidence(fuse, powers=powers)
    given = points_of(
        build.test,
        Configuration((("a", 0.95), ("e", 0.55)), evidence),
        Configuration((("a", 0.96), ("e", 0.5), ("f", 0.9)), evidence),
    )
    shorter, found = drop_unreached(build, given)
    assert found.last_stage == "e"
    assert (shorter.build.stages.chain, len(shorter.build.stages.segments)) == (("a",), 2)
    test = build.test
    for point, before in zip(found.points, given.points, strict=True):
        # brute force: whatever the saver lets pass is answered by the exit, whose threshold is below everything
        threshold = before.stages[0].threshold
        ends = OperatingPoint.measure(test, Configuration((("a", threshold), ("e", -1.0)), evidence), name="brute")
        assert (point.accuracy, point.cost) == (ends.accuracy, pytest.approx(ends.cost))
        assert point.accuracy_drop == pytest.approx(given.baseline.accuracy - ends.accuracy)
        assert point.cost_ratio == pytest.approx(ends.cost / 30)
        assert point.exit_rates == {"a": ends.exit_rates["a"], "final": ends.exit_rates["e"]}
        assert [stage.stage for stage in point.stages] == ["a"]
    assert found.points[0].accuracy != given.points[0].accuracy, "some went on"
    assert "what is behind it (f, final) is not in the file" in found.warnings[-1]


def test_nothing_changes_where_some_sample_gets_to_the_end():
    build = recorded(np.random.default_rng(0), 0.5, "none")
    given = points_of(build.test, Configuration((("a", 0.9),)), Configuration((("a", 0.0),)))
    assert drop_unreached(build, given) == (build, given)


def test_a_chain_cannot_end_at_an_exit_that_reads_taps():
    build = recorded(np.random.default_rng(0), 0.9, "none")
    tapped = dataclasses.replace(build.build.stages, taps={0: made("t", ("hidden",), "memory")})
    build = build._replace(build=dataclasses.replace(build.build, stages=tapped))
    given = points_of(build.test, Configuration((("a", 0.95), ("e", 0.1))))
    same, points = drop_unreached(build, given)
    assert same is build
    assert points.last_stage is None
    assert points.warnings[-1].startswith("no calibration sample gets past e, which reads taps: a chain cannot end")
