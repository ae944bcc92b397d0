import json
import logging
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from instances import savers

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.chain.evidence import Evidence
from dynamic_exit.chain.thresholds import Configuration
from dynamic_exit.errors import MonitorError, OperatingPointError
from dynamic_exit.monitoring import Monitor, PointReference, Reference
from dynamic_exit.monitoring.reference import scores

CLASSES = 10


@pytest.fixture(scope="module")
def records():
    return savers(0, 4000, count=2)


@pytest.fixture(scope="module")
def bold(records):
    return Configuration(tuple((stage, np.float32(0.5)) for stage in records.stages[:-1]), Evidence("none"))


@pytest.fixture(scope="module")
def reference(records, bold):
    rows = records.take(slice(0, 1000))
    off = Configuration((), Evidence("none"))
    points = (PointReference.of("bold", rows, bold, CLASSES), PointReference.of("backbone", rows, off, CLASSES))
    return Reference(stages=records.stages, points=points)


@pytest.fixture(scope="module")
def traffic(records, bold):
    """Answers of samples that the reference does not hold, drawn with replacement."""
    found = evaluate(records.take(slice(1000, 4000)), bold)

    def draw(count, seed, hard=0.0):
        """Return exits, confidences and classes; a share `hard` is drawn from the harder half alone."""
        random = np.random.default_rng(seed)
        order = np.argsort(scores(found.exit_index, found.confidence))
        rows = random.integers(len(order), size=count)
        rows = np.where(random.random(count) < hard, random.integers(len(order) // 2, len(order), size=count), rows)
        return tuple(each[order[rows]] for each in (found.exit_index, found.confidence, found.prediction))

    return draw


class Switchable:
    def __init__(self, name="bold"):
        self.operating_point, self.names = SimpleNamespace(name=name), [name]

    def set_operating_point(self, name):
        if name == "gone":
            raise OperatingPointError("no such point")
        self.operating_point = SimpleNamespace(name=name)
        self.names.append(name)


def test_the_reference_counts_what_evaluation_finds(records, bold, reference):
    rows, found = records.take(slice(0, 1000)), evaluate(records.take(slice(0, 1000)), bold)
    point = reference.point("bold")
    assert point.samples == 1000 and [each / 1000 for each in point.exits] == [found.exit_rates[s] for s in rows.stages]
    assert point.correct / 1000 == pytest.approx(found.accuracy)
    assert (point.worse - point.better) / 1000 == pytest.approx(found.accuracy_drop)
    assert point.agreeing == (found.prediction == rows.topk_classes[-1, :, 0]).sum()
    parts = point.part(found.exit_index, found.confidence)
    assert np.bincount(parts, minlength=len(point.counts)).tolist() == list(point.counts)
    # a later exit is harder, and so is less confidence at the same one; what is not finite is hardest
    exits, sure = np.array([0, 0, 1, 2, 0]), np.array([0.9, 0.2, 0.9, 0.99, np.nan], np.float32)
    assert (np.diff(scores(exits, sure)) > 0).all() and point.part(exits, sure)[-1] == len(point.counts) - 1


def test_traffic_like_the_reference_raises_no_alarm(reference, traffic):
    fired = 0
    for seed in range(20):
        monitor = Monitor(reference, level=0.05, seed=seed)
        monitor.observe("bold", *traffic(6000, seed))
        fired += monitor.status().moved
    assert fired <= 3


def test_harder_traffic_is_noticed_and_explained(reference, traffic):
    monitor = Monitor(reference)
    monitor.observe("bold", *traffic(5000, 1))
    assert not monitor.status().moved
    for step in range(40):
        monitor.observe("bold", *traffic(64, 100 + step, hard=0.4))
        if monitor.status().moved:
            break
    (alarm,) = monitor.status().alarms
    assert alarm.kind == "exits" and 5000 < alarm.request <= 5000 + 64 * 40
    assert alarm.answers == pytest.approx(alarm.request - 5000, abs=500)
    assert f"{alarm.after:.1%} of samples, {alarm.before:.1%} of test samples" in alarm.message


def test_another_mix_of_classes_is_noticed(reference, traffic):
    monitor = Monitor(reference)
    exits, sure, classes = traffic(30_000, 5)
    keep = np.flatnonzero((classes == 3) | (np.arange(30_000) % 2 == 0))[:6000]  # class 3 twice as often
    monitor.observe("bold", exits[keep], sure[keep], classes[keep])
    alarms = [alarm for alarm in monitor.status().alarms if alarm.kind == "classes"]
    assert alarms and "class 3 is" in alarms[0].message and alarms[0].after > 1.5 * alarms[0].before


@pytest.mark.parametrize(("kind", "point"), [("agreement", "bold"), ("accuracy", "bold"), ("accuracy", "backbone")])
def test_fewer_good_answers_are_noticed_and_more_are_not(reference, kind, point):
    known = reference.point(point)
    share = known.agreeing / known.samples if kind == "agreement" else known.correct / known.labelled
    random = np.random.default_rng(2)
    for good, moved in ((share, False), (min(1, share + 0.05), False), (share - 0.15, True)):
        monitor = Monitor(reference)
        bad = random.random(2000) >= good
        observe = monitor.observe_agreement if kind == "agreement" else monitor.observe_labels
        observe(point, bad.astype(int), np.zeros(2000, int))
        assert monitor.status().moved == moved
        assert [alarm.kind for alarm in monitor.status().alarms][:1] == [kind] * moved


def test_small_calls_give_what_large_ones_give(reference, traffic):
    large, small = Monitor(reference), Monitor(reference)
    exits, sure, classes = traffic(1000, 4, hard=0.1)
    large.observe("bold", exits, sure, classes)
    for row in range(0, 1000, 3):
        small.observe("bold", exits[row : row + 3], sure[row : row + 3], classes[row : row + 3])
    assert large.status().evidence == small.status().evidence


def test_an_alarm_switches_to_the_fallback_and_back(reference, traffic):
    heard, model = [], Switchable()
    monitor = Monitor(reference, fallback="backbone", recovery=2000, on_alarm=heard.append)
    monitor.attach(model)
    monitor.observe("bold", *traffic(3000, 1, hard=0.5))
    assert model.operating_point.name == "backbone" == monitor.status().fallback and heard
    everything = np.full(1999, len(reference.stages) - 1)
    # at the backbone all samples leave at the end, as sure as on test samples
    sure = np.random.default_rng(0).choice(like_backbone(reference), size=1999)
    monitor.observe("backbone", everything, sure)
    assert monitor.status().moved and monitor.status().fallback
    monitor.observe("backbone", everything[:1], sure[:1])
    status = monitor.status()
    assert not status.moved and status.fallback is None and model.names == ["bold", "backbone", "bold"]
    assert len(status.alarms) == len(heard)


def like_backbone(reference):
    """Confidences that fall into the parts of the backbone as its test samples do."""
    point = reference.point("backbone")
    edges = np.array([point.edges[0] - 1e-6, *point.edges]) + 1e-9
    return np.repeat(len(reference.stages) - edges, point.counts).astype(np.float32)


def test_a_callback_may_wait_for_what_other_threads_ask(reference, traffic):
    asked = []

    def ask(alarm):
        thread = threading.Thread(target=lambda: asked.append(monitor.status().alarms[0] == alarm), daemon=True)
        thread.start()
        thread.join(30)

    monitor = Monitor(reference, on_alarm=ask)
    monitor.observe("bold", *traffic(2000, 1, hard=0.5))
    assert asked and asked[0]


def test_a_restart_stays_at_the_fallback_until_it_is_quiet(reference, traffic, tmp_path):
    first, folder = Monitor(reference, fallback="backbone", level=0.02, seed=3, recovery=1000), tmp_path
    first.attach(Switchable())
    first.observe("bold", *traffic(3000, 1, hard=0.5))
    first.save(folder / "state.json")
    reference.write(folder / "reference.json")
    again, model = Monitor.resume(folder, folder / "state.json", recovery=1000), Switchable()
    assert (again.level, again.fallback) == (0.02, "backbone") and again.status() == first.status()
    again.attach(model)
    assert model.operating_point.name == "backbone" == again.status().fallback
    sure = np.random.default_rng(0).choice(like_backbone(reference), size=1000)
    again.observe("backbone", np.full(1000, len(reference.stages) - 1), sure)
    assert again.status().fallback is None and model.names == ["bold", "backbone", "bold"]
    other, untouched = Monitor.resume(folder, folder / "state.json", fallback=None), Switchable()
    other.attach(untouched)
    assert other.status().fallback is None and untouched.names == ["bold"]
    (folder / "state.json").write_text('{"_type": "dynamic_exit.monitor", "_version": 1}')
    with pytest.raises(MonitorError, match="is not whole: 'model'; begin without it"):
        Monitor.resume(folder, folder / "state.json")


def test_what_callbacks_raise_and_points_that_are_gone_are_logged(reference, traffic, caplog):
    def fail(alarm):
        raise RuntimeError("down")

    model = Switchable()
    monitor = Monitor(reference, fallback="backbone", on_alarm=fail)
    monitor.attach(model)
    model.set_operating_point = lambda name: (_ for _ in ()).throw(OperatingPointError("no such point"))
    with caplog.at_level(logging.WARNING, logger="dynamic_exit"):
        monitor.observe("bold", *traffic(3000, 1, hard=0.5))
    assert monitor.status().moved
    assert "the callback of a monitor raised an error" in caplog.text
    assert "cannot switch to 'backbone': no such point; the model stays where it is" in caplog.text


def test_a_written_state_goes_on_as_if_never_stopped(reference, traffic, tmp_path):
    whole = Monitor(reference)
    first, second = traffic(1111, 8), traffic(3000, 9, hard=0.3)
    whole.observe("bold", *first)
    whole.observe_labels("bold", np.zeros(40, int), np.zeros(40, int))
    whole.save(tmp_path / "state.json")
    again = Monitor(Reference.model_validate_json(reference.model_dump_json()))
    again.load(tmp_path / "state.json")
    for monitor in (whole, again):
        monitor.observe("bold", *second)
    ours, theirs = whole.status(), again.status()
    assert ours.evidence == theirs.evidence and ours.requests == theirs.requests == 4111 and theirs.labelled == 40
    assert [a.request for a in ours.alarms] == [a.request for a in theirs.alarms] and ours.moved


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.update(model=["x", 0.01, 0]), "is of another model, level or seed"),
        (lambda state: state.update(_version=9), "is no state of a monitor of version 1"),
        (lambda state: state.pop("watches"), "is not whole: 'watches'"),
        (lambda state: state["watches"]["exits"]["seen"]["bold"].pop(), "is not whole: its counts of 'bold'"),
        (lambda state: state["watches"]["exits"].update(seen={}), "is not whole: it is of other operating points"),
        (lambda state: state["watches"]["classes"]["martingale"].update(since=[]), "is not whole: it holds"),
        (lambda state: state["watches"]["exits"]["random"].update(bit_generator="MT19937"), "is not whole"),
    ],
)
def test_states_that_do_not_fit_are_refused_and_nothing_changes(reference, traffic, tmp_path, change, message):
    monitor = Monitor(reference)
    monitor.observe("bold", *traffic(500, 0))
    monitor.save(tmp_path / "state.json")
    state = json.loads((tmp_path / "state.json").read_text())
    change(state)
    (tmp_path / "state.json").write_text(json.dumps(state))
    with pytest.raises(MonitorError, match=message):
        Monitor(reference).load(tmp_path / "state.json")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.observe("bold", np.zeros(3, int), np.zeros(2)), "got exits, confidences and classes of shapes"),
        (lambda m: (m.observe("bold", np.array([7]), np.ones(1)), m.status()), "got exit 7, and the model has 3"),
        (lambda m: (m.observe("bold", np.zeros(1, int), np.ones(1), np.array([-1])), m.status()), "got class -1, and"),
        (lambda m: Monitor(m.reference, level=1), "the level must be between 0 and 1"),
        (lambda m: Monitor(m.reference, fallback="safe"), "no operating point 'safe' to fall back to; there are bold"),
        (lambda m: Monitor(m.reference, recovery=0), "recovery must be a number of answers"),
    ],
)
def test_wrong_calls_are_refused(reference, call, message):
    with pytest.raises(MonitorError, match=message):
        call(Monitor(reference))


def test_unknown_points_and_odd_confidences_are_counted(reference):
    monitor = Monitor(reference)
    monitor.observe("another", np.zeros(5, int), np.ones(5))
    monitor.observe("bold", np.zeros(4, int), np.array([np.nan, np.inf, -np.inf, 0.5]))
    assert (monitor.status().requests, monitor.status().invalid) == (9, 3)


@pytest.mark.parametrize("name", ["exits", "edges", "counts", "classes", "points"])
def test_references_that_are_not_whole_are_refused(reference, tmp_path, name):
    path = tmp_path / "reference.json"
    reference.write(path)
    values = json.loads(path.read_text())
    if name == "points":
        values["points"].append(values["points"][0])
    else:
        values["points"][0][name] = values["points"][0][name][:-1]
    path.write_text(json.dumps(values))
    with pytest.raises(MonitorError, match="is no whole reference"):
        Reference.read(path)
    with pytest.raises(MonitorError, match="is missing, which live traffic is compared with"):
        Reference.read(tmp_path / "gone.json")
