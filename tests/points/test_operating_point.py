import json

import pytest
from instances import savers

from dynamic_exit.chain.confidence import Gate
from dynamic_exit.chain.evidence import Evidence
from dynamic_exit.chain.thresholds import Configuration
from dynamic_exit.errors import OperatingPointError
from dynamic_exit.points.goal import Goal
from dynamic_exit.points.operating_point import Baseline, OperatingPoint, OperatingPoints
from dynamic_exit.points.parts import Guarantee


def points() -> OperatingPoints:
    records = savers(0, 300)
    measured = [
        OperatingPoint.measure(
            records, Configuration((("saver0", t), ("saver2", t)), "mean"), name=goal.name, goal=goal
        )
        for goal, t in ((Goal(max_accuracy_drop=0.005), 0.9), (Goal(budget=0.4), 0.5))
    ]
    return OperatingPoints(cost_unit="macs", baseline=Baseline(accuracy=0.9, cost=1.0), points=tuple(measured))


def content(**changes) -> str:
    made = json.loads(points().to_json())
    for path, value in changes.items():
        *before, last = path.split("__")
        target = made
        for key in before:
            target = target[int(key) if key.isdigit() else key]
        target[last] = value
    return json.dumps(made)


def test_the_file_is_as_the_design_says(tmp_path):
    made = points()
    made.write(tmp_path / "points.json")
    read = json.loads((tmp_path / "points.json").read_text())
    assert list(read) == ["_type", "_version", "cost_unit", "baseline", "points", "last_stage"]
    assert read["_type"] == "dynamic_exit.operating_points" and read["_version"] == 2
    assert list(read["points"][0]) == [
        "name", "goal", "stages", "fuse", "confidence", "powers", "gates", "accuracy", "accuracy_drop", "cost",
        "cost_ratio", "exit_rates", "samples", "guarantee",
    ]  # fmt: skip
    assert read["points"][0]["goal"] == {"max_accuracy_drop": 0.005} and read["points"][0]["guarantee"] is None
    assert [point["name"] for point in read["points"]] == ["accuracy-drop-0.5%", "budget-40%"]
    assert read["points"][0]["stages"][1] == {"stage": "saver2", "threshold": 0.9}
    assert list(read["points"][0]["exit_rates"]) == ["saver0", "saver2", "final"]
    again = OperatingPoints.read(tmp_path / "points.json")
    assert again == made and again.to_json() == made.to_json()


def test_a_file_of_version_1_means_the_largest_evidence_and_equal_powers():
    old = json.loads(points().to_json()) | {"_version": 1}
    for point in old["points"]:
        del point["confidence"], point["powers"], point["gates"]
    assert OperatingPoints.from_json(json.dumps(old)) == points()


def test_a_file_of_version_2_without_gates_loads_and_gates_come_back_as_they_were():
    old = json.loads(points().to_json())
    for point in old["points"]:
        del point["gates"]
    assert OperatingPoints.from_json(json.dumps(old)) == points()
    gate = Gate(constant=0.5, largest=1.25, second=-0.5, margin=0.125, offsets=(0.25, -0.75))
    evidence = Evidence("mean", "learned", gates=(("saver0", gate),))
    point = OperatingPoint.measure(savers(0, 300), Configuration((("saver0", 0.9),), evidence), name="learned")
    read = OperatingPoints.from_json(points().model_copy(update={"points": (point,)}).to_json())
    assert read.points[0].evidence == read.evidence == evidence


def test_a_gate_that_is_no_number_is_refused():
    with pytest.raises(
        OperatingPointError, match=r"breaks the format at points.0.gates.saver0.offsets.1: Input should"
    ):
        OperatingPoints.from_json(content(points__0__gates={"saver0": {"offsets": [0.0, "x"]}}))


def test_a_point_is_a_configuration_again():
    assert points().points[0].configuration == Configuration((("saver0", 0.9), ("saver2", 0.9)), "mean")


def test_names():
    made = points()
    assert made.by_name("budget-40%") is made.points[1]
    assert made.by_name("backbone").cost_ratio == 1 and made.by_name("backbone").stages == ()
    with pytest.raises(OperatingPointError) as error:
        made.by_name("budget-4%")
    assert (
        str(error.value)
        == "there is no operating point 'budget-4%'; known are: accuracy-drop-0.5%, backbone, budget-40%"
    )
    assert Goal(max_accuracy_drop=0.0).name == "accuracy-drop-0%" and Goal(max_accuracy_drop=0.0125).name.endswith(
        "1.25%"
    )


def test_nearest():
    careful, bold = points().points
    careful = careful.model_copy(update={"accuracy_drop": 0.004, "cost_ratio": 0.6, "cost": 0.6})
    bold = bold.model_copy(update={"accuracy_drop": 0.02, "cost_ratio": 0.3, "cost": 0.3})
    made = points().model_copy(update={"points": (careful, bold)})
    assert made.nearest(max_accuracy_drop=0.02) == careful
    assert made.nearest(max_accuracy_drop=0.005) == careful
    assert made.nearest(budget=1.0).name == "backbone"
    assert made.nearest(budget=0.99) == careful
    assert made.nearest(budget=0.3) == bold
    promised = bold.model_copy(update={"guarantee": Guarantee(max_accuracy_drop=0.019, probability=0.9, samples=9)})
    assert made.model_copy(update={"points": (promised,)}).nearest(max_accuracy_drop=0.019) == promised
    assert made.model_copy(update={"points": (careful, promised)}).nearest(max_accuracy_drop=0.019) == careful


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({}, "ask for either a max_accuracy_drop or a budget"),
        ({"budget": 0.5, "max_accuracy_drop": 0.1}, "ask for either a max_accuracy_drop or a budget"),
        ({"budget": 0.001}, "no operating point costs at most 0.001 of the backbone; the cheapest costs "),
        ({"budget": float("nan")}, "a max_accuracy_drop or budget must be a number; got nan"),
        ({"max_accuracy_drop": "1%"}, "a max_accuracy_drop or budget must be a number; got '1%'"),
        (
            {"max_accuracy_drop": -0.9},
            "no operating point was tuned for an accuracy drop of at most -0.9; known are: accuracy-drop-0.5% (0.005)",
        ),
    ],
)
def test_wishes_that_cannot_be_met(wish, message):
    with pytest.raises(OperatingPointError) as error:
        points().nearest(**wish)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'it' is not JSON"),
        ("[]", "'it' holds no operating points: its _type must be 'dynamic_exit.operating_points'"),
        (content(_version=3), "'it' is of version 3, this program reads up to 2; use a newer dynamic_exit"),
        (content(_version="1"), "'it' breaks the format at _version: "),
        (content(extra=1), "'it' breaks the format at extra: Extra inputs are not permitted"),
        (content(points__0__accuracy=1.5), "'it' breaks the format at points.0.accuracy: "),
        (content(points__0__cost=float("nan")), "'it' is not JSON (NaN is no number of JSON)"),
        (content(points__0__fuse="median"), "'it' breaks the format at points.0.fuse: "),
        (content(points__0__goal={}), "a goal is either a max_accuracy_drop, a max_risk_increase or a budget"),
        (content(points__0__name="budget-40%"), "the point name 'budget-40%' comes twice"),
        (content(points__0__stages=[{"stage": "a"}]), "'it' breaks the format at points.0.stages.0.threshold: "),
    ],
)
def test_files_that_break_the_format(text, message):
    with pytest.raises(OperatingPointError) as error:
        OperatingPoints.from_json(text, source="it")
    assert message in str(error.value)


def test_a_missing_file_and_a_write_that_fails(tmp_path):
    with pytest.raises(OperatingPointError, match="cannot read the operating points"):
        OperatingPoints.read(tmp_path / "nowhere.json")
    with pytest.raises(OperatingPointError, match="cannot write the operating points"):
        points().write(tmp_path / "nowhere" / "points.json")
    assert list(tmp_path.iterdir()) == []
