"""The command `tune`: every option about risk, evidence and samples does what it says, and is refused in a sentence."""

import json

import numpy as np
import pytest
from instances import savers

from dynamic_exit.points import OperatingPoints

LOSSES = """\
import numpy as np

def far(truth, answer):
    return np.abs(truth - answer) / 9

def lost(truth, answer):
    return np.full(len(truth), np.nan)
"""


@pytest.fixture
def tune(command, tmp_path, monkeypatch):
    """The command on records of this folder: exit code, operating points or None, stderr."""
    monkeypatch.chdir(tmp_path)
    savers(0, 800, count=1)._replace(groups=np.arange(800) % 2).write("records.npz")
    savers(1, 700, count=1).write("others.npz")
    savers(2, 600, count=1)._replace(labels=np.full(600, -1)).write("unlabelled.npz")
    savers(3, 100, count=2).write("chain.npz")
    (tmp_path / "losses.py").write_text(LOSSES)

    def call(*options):
        code, out, err = command("tune", "records.npz", "--output", "points.json", "--json", *options)
        return code, OperatingPoints.model_validate(json.loads(out)) if out else None, err

    return call


def test_evidence_and_report_are_those_that_are_asked_for(tune):
    code, points, _ = tune("--fuse", "mean", "--confidence", "learned", "--report", "others.npz")
    assert code == 0 and {(each.fuse, each.confidence) for each in points.points} == {("mean", "learned")}
    assert {each.samples for each in points.points} == {700}


def test_a_function_is_the_risk_and_every_group_is_limited(tune):
    options = "--risk", "losses.py:far", "--max-risk-increase", 0.03, "--max-class-drop", 0.1, "--fuse", "none"
    code, points, _ = tune(*options, "--guarantee", 0.8, "--report", "others.npz", "--require-guarantee")
    (point,) = points.points
    assert (point.name, point.risk.name) == ("risk-increase-3%", "losses.py:far")
    held = point.guarantee
    assert code == 0 and (held.max_risk_increase, held.max_class_drop, held.samples) == (0.03, 0.1, 400)


def test_the_table_says_what_is_lost_of_the_risk_and_by_group(tune, command):
    options = "--risk", "losses.py:far", "--max-risk-increase", 0.03, "--max-class-drop", 0.1, "--fuse", "none"
    (point,) = tune(*options)[1].points
    header, row = command("tune", "records.npz", "--output", "points.json", *options)[1].splitlines()
    assert "loss of losses.py:far" in header and header.endswith("lost most")
    assert f"{100 * point.risk.increase:.2f} ± " in row and "group " in row
    assert f": {100 * point.largest_class_drop:.2f} ± " in row.rpartition("group")[2]


def test_a_guarantee_that_is_missing_ends_with_code_3(tune):
    options = "--max-accuracy-drop", 0.01, "--max-class-drop", 0.001, "--fuse", "none"
    code, points, err = tune(*options, "--guarantee", 0.99, "--require-guarantee")
    assert code == 3 and points.points[0].guarantee is None
    assert err.endswith("dynamic-exit: what is required was missed: no guarantee: accuracy-drop-1%\n")


def test_samples_without_labels_take_part_or_are_said_not_to(tune):
    options = "--fuse", "none", "--confidence", "top1", "--report", "others.npz", "--unlabelled", "unlabelled.npz"
    drop = "--max-accuracy-drop", 0.01
    assert "searched: what all stages say and 600 samples without labels" in tune(*options, *drop)[2]
    said = "dynamic-exit: the 600 samples without labels take no part in the search: "
    assert (
        f"{said}what classes or groups lose is counted on labels\n" in tune(*options, *drop, "--max-class-drop", 0.1)[2]
    )
    code, points, err = tune(*options, "--risk", "agreement", "--max-risk-increase", 0.01)
    assert (code, points.points[0].risk.name) == (0, "agreement")
    assert f"{said}the risk agreement needs no labels\n" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--risk", "acuracy"), "`risk` names no risk: 'acuracy' is neither a file of costs (.csv, .npy) nor "
         "file.py:function; did you mean 'accuracy'?"),
        (("--risk", "losses.py:lost"), "'losses.py:lost' gives the answer 0 for class 0 a loss of nan; losses lie in "
         "0..1"),
        (("--risk", "top_6"), "the risk 'top_6' looks at 6 classes of an answer, the records keep 5; record more"),
        (("--max-accuracy-drop", 0.01, "--risk", "agreement"), "max_accuracy_drop is about accuracy, the risk is "
         "'agreement'; give max_risk_increase"),
        (("--fuse", "prodct"), "fuse must be 'mean', 'none' or 'product'; got 'prodct'"),
        (("--confidence", "margn"), "confidence must be 'margin', 'learned' or 'top1'; got 'margn'"),
        (("--max-class-drop", 2), "the allowed drop of a class is 2, which allows a loss of 200 points; did you mean "
         "0.02?"),
        (("--unlabelled", "chain.npz"), "the unlabelled records are of another chain: their stages are ('saver0', "
         "'saver1', 'final'), not ('saver0', 'final'); record the same stages in the same unit"),
    ],
)  # fmt: skip
def test_what_is_refused(tune, options, message):
    assert tune(*options) == (2, None, f"dynamic-exit: {message}\n")
