"""`monitor` shows what a saved state holds."""

import json

import numpy as np
import pytest

from dynamic_exit.dashboard import monitor_page, monitor_verdict, rates_table
from dynamic_exit.monitoring import Adaptation, Monitor


@pytest.fixture(scope="module")
def watched(ran, tmp_path_factory):
    """A state after 1,000 answers that all came from the end; the folder, the state, the monitor and its point."""
    state = tmp_path_factory.mktemp("state") / "monitor.json"
    monitor = Monitor.read(ran.folder, fallback="backbone")
    point, last = ran.result.points.names[0], len(monitor.reference.stages) - 1
    monitor.observe(point, np.full(1000, last), np.full(1000, 0.5, np.float32))
    monitor.save(state)
    return ran.folder, state, monitor, point


def test_the_command_shows_alarms_evidence_and_rates(watched, command, tmp_path):
    folder, state, monitor, point = watched
    code, out, err = command("monitor", folder, state, "--output", tmp_path / "page.html")
    alarm = monitor.status().alarms[-1]
    assert code == 0 and not err and f"{alarm.answers} answers at '{point}'" in " ".join(out.split())
    page = (tmp_path / "page.html").read_text()
    assert "Live traffic has moved" in page and page.count("<h2>") == 3 and "None so far" not in page


def test_recent_answers_stand_beside_test_samples(watched):
    folder, _, monitor, point = watched
    calm, last = Monitor.read(folder, level=1e-99), len(monitor.reference.stages) - 1
    for exits in (np.full(96, last), np.zeros(32, int)):
        calm.observe(point, exits, np.full(len(exits), 0.5, np.float32))
    table, known = rates_table(calm.reference, calm.status()), calm.reference.point(point)
    assert table.header[:3] == ["stage", "recent answers", f"test samples, {point}"]
    first, *_, final = (row[:3] for row in table.rows)
    assert first == [calm.reference.stages[0], "25.0%", f"{known.exits[0] / known.samples:.1%}"]
    assert final == ["final", "75.0%", f"{known.exits[-1] / known.samples:.1%}"]
    assert {row[1] for row in rates_table(monitor.reference, Monitor.read(folder).status()).rows} == {""}


def test_for_scripts_it_prints_the_status_as_json(watched, command):
    folder, state, monitor, _ = watched
    code, out, _ = command("monitor", folder, state, "--json")
    found = json.loads(out)
    assert code == 0 and found["requests"] == 1000 and found["moved"]
    assert [each["message"] for each in found["alarms"]] == [each.message for each in monitor.status().alarms]


def test_quiet_traffic_is_said_to_be_quiet(watched):
    folder, *_ = watched
    monitor = Monitor.read(folder)
    sentence = "Nothing says that live traffic is not like the test samples, over 0 answers."
    assert monitor_verdict(monitor.status()) == sentence
    page = monitor_page("<b>x", monitor.reference, monitor.status())
    assert "<h1>&lt;b&gt;x</h1>" in page and sentence in page and "None so far." in page


def test_states_and_folders_that_do_not_fit_are_refused(watched, command, tmp_path):
    folder, state, *_ = watched
    (tmp_path / "none.json").write_text("{}")
    code, _, err = command("monitor", folder, tmp_path / "none.json")
    assert code == 2 and "is no state of a monitor of version 1" in err
    code, _, err = command("monitor", tmp_path, state)
    assert code == 2 and "reference.json' is missing, which live traffic is compared with" in err


def test_changes_of_re_tuned_thresholds_are_shown(watched, command, tmp_path):
    folder, *_ = watched
    adaptation = Adaptation(0.9, samples=100)
    monitor = Monitor.read(folder, adaptation=adaptation)
    chain = np.full(len(monitor.reference.stages) - 1, 0.5, np.float32)
    adaptation.begin(monitor.reference.stages[:-1], chain, 0.9, None)
    sure = np.random.default_rng(0).random((50, len(chain))).astype(np.float32)
    for _ in range(8):  # the backbone's answers all of them
        adaptation.observe(np.zeros((50, len(chain) + 1), int), sure, np.zeros(50, int))
    monitor.save(tmp_path / "state.json")
    code, out, err = command("monitor", folder, tmp_path / "state.json", "--output", tmp_path / "page.html")
    told = " ".join(out.split())
    assert (code, err) == (0, "") and "what has changed" in told and "answers since were the backbone's" in told
    assert "<h2>Re-tuned thresholds</h2>" in (tmp_path / "page.html").read_text()
