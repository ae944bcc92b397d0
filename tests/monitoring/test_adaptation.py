"""Thresholds that are re-tuned by agreement with the backbone: what is promised and certified, and the way back."""

import json
import logging

import numpy as np
import pytest

from dynamic_exit.errors import MonitorError
from dynamic_exit.monitoring import Adaptation
from dynamic_exit.monitoring.certifying import Choice
from dynamic_exit.monitoring.retuning import StageAnswers

COSTS = np.array([0.02, 0.0, 0.1, 0.0]), np.array([0.0, 0.0, 0.0, 1.0])
OFF = np.float32(np.inf)


def draw(random, count, wrong=1.0):
    """Answers of two stages and the end, where the less sure are wrong more often; the backbone answers 0."""
    sure = np.sort(random.random((count, 2)), axis=1).astype(np.float32)
    classes = (random.random((count, 2)) < wrong * (1 - sure) ** 2).astype(np.int64)
    return np.column_stack([classes, np.zeros(count, np.int64)]), sure, np.zeros(count, np.int64)


def begun(agreement=0.9, promised=0.97, **options):
    """An adaptation whose second stage of three is off."""
    adaptation = Adaptation(agreement, **options)
    adaptation.begin(("a", "b", "c"), np.array([0.5, OFF, 0.5], np.float32), promised, COSTS)
    return adaptation


def shown(adaptation, random, calls, wrong=1.0):
    for _ in range(calls):
        adaptation.observe(*draw(random, 50, wrong))
    return adaptation


def agreement(adaptation, random, wrong=1.0):
    """The share of 100,000 fresh answers that are the backbone's at the thresholds in use."""
    classes, sure, _ = draw(random, 100_000, wrong)
    return 1 - StageAnswers(sure, classes != 0).disagrees(adaptation.thresholds[[0, 2]]).mean()


def test_a_candidate_that_breaks_the_promise_is_seldom_certified():
    random, level, runs, certified = np.random.default_rng(0), 0.1, 150, 0
    for _ in range(runs):
        none = np.zeros(2, np.int64)
        choice = Choice(np.full((2, 1), 0.5, np.float32), np.full(2, 0.05), level, 1000, 0, none, none.astype(bool))
        for _ in range(10):
            # as often as is not allowed any more
            differs = np.column_stack([random.random(100) < 0.1, np.zeros(100, bool)])
            choice.test(StageAnswers(np.ones((100, 1), np.float32), differs), 0.1)
        certified += choice.certified > 0
    assert 0 < certified / runs <= level + 2 * np.sqrt(level * (1 - level) / runs)


def test_a_bold_candidate_waits_for_the_safer_ones():
    choice = Choice(np.ones((3, 1), np.float32), np.ones(3), 0.1, 9, 0, np.zeros(3, int), np.array([True, False, True]))
    assert choice.certified == 1


def test_thresholds_come_back_and_keep_the_promise(caplog):
    random = np.random.default_rng(1)
    adaptation = begun()
    assert adaptation.on and adaptation.thresholds is None
    with caplog.at_level(logging.WARNING, logger="dynamic_exit"):
        shown(adaptation, random, 5)
        assert adaptation.thresholds is None, "those that chose certify nothing"
        shown(adaptation, random, 75)
    status, used = adaptation.status(), adaptation.thresholds
    assert used[1] == OFF and [*status.thresholds] == ["a", "c"] and status.promised == 0.9 and status.checked == 4000
    assert agreement(adaptation, random) >= 0.9 and "of the backbone's cost" in status.changes[-1].message
    assert caplog.text.count("adapted after") == len(status.changes) == adaptation.changes >= 2
    assert len({each.message for each in status.changes}) == len(status.changes)


def test_probes_ask_each_stage_in_use_and_the_end():
    probes = [(stage, thresholds.tolist()) for stage, thresholds in begun().probes]
    assert probes == [(0, [-1, OFF, 1]), (2, [1, OFF, -1]), (3, [1, OFF, 1])]
    assert Adaptation().probes == [] and not Adaptation().on


def test_the_backbone_takes_over_where_traffic_moves_again_and_thresholds_are_tuned_anew():
    random = np.random.default_rng(2)
    adaptation = shown(begun(), random, 60)
    before, changes = adaptation.thresholds, adaptation.changes
    shown(adaptation, random, 15, wrong=4)
    told = adaptation.status().changes[changes:]
    assert [each.thresholds for each in told[-1:]] == [None] and "90.0% is no longer kept" in told[-1].message
    shown(adaptation, random, 150, wrong=4)
    assert adaptation.thresholds.tolist() != before.tolist() and agreement(adaptation, random, 4) >= 0.9


def test_changes_are_undone_one_by_one_and_nothing_is_changed_after():
    random = np.random.default_rng(3)
    adaptation = shown(begun(), random, 80)
    used = [each.thresholds for each in adaptation.status().changes]
    assert adaptation.undo() and adaptation.status().thresholds == used[-2]
    shown(adaptation, random, 80)
    assert adaptation.status().thresholds == used[-2]
    while adaptation.undo():
        pass
    assert adaptation.thresholds is None and adaptation.on and not adaptation.undo()
    assert adaptation.status().changes[-1].message == "the backbone answers: the last change was undone"


@pytest.mark.parametrize(("calls", "ended"), [(0, False), (3, False), (12, False), (60, False), (12, True)])
def test_a_written_state_goes_on_as_if_never_stopped(calls, ended):
    random = np.random.default_rng(4)
    whole = shown(begun(), random, calls)
    if ended:
        whole.end("by hand")
    state = json.loads(json.dumps(whole.to_dict(), allow_nan=False))
    again = Adaptation(0.9)
    again.restore(state)
    assert again.status() == whole.status()
    later = [draw(random, 50) for _ in range(20)]
    for adaptation in (whole, again):
        for each in later:
            adaptation.observe(*each)
    ours, theirs = whole.to_dict(), again.to_dict()
    for each in (*ours["changes"], *theirs["changes"]):
        each["time"] = 0
    assert ours == theirs


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"options": [0.8, 0.95, 250]}, MonitorError, "an adaptation with agreement, probability and samples of .0.8"),
        ({"chain": [0.5, 0.5, 0.5]}, ValueError, "cannot reshape|do not fit"),
        ({"used": [[0.5]]}, ValueError, "do not fit each other"),
        ({"stages": ["a"]}, ValueError, "do not fit each other"),
    ],
)
def test_states_that_do_not_fit_are_refused(change, error, message):
    adaptation = shown(begun(), np.random.default_rng(5), 8)
    before = adaptation.to_dict()
    with pytest.raises(error, match=message):
        adaptation.restore({**before, **change})
    assert adaptation.to_dict() == before


def test_what_no_samples_can_promise_is_said(caplog):
    adaptation = begun(agreement=None, promised=1.0)
    assert "no number of answers can show that all of them are the backbone's" in caplog.text
    shown(adaptation, np.random.default_rng(6), 20)
    assert adaptation.thresholds is None and not adaptation.changes
    assert begun(agreement=None, promised=0.97).status().promised == 0.97


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"agreement": 98}, "the agreement must be a share between 0 and 1, such as 0.98; got 98"),
        ({"probability": 1}, "the probability must be between 0 and 1, such as 0.95; got 1"),
        ({"samples": 0}, "samples must be a number of answers in 1..2000; got 0"),
    ],
)
def test_options_that_are_none_are_refused(options, message):
    with pytest.raises(MonitorError, match=message):
        Adaptation(**options)
