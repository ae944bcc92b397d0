"""A server that re-tunes its thresholds, over HTTP and over a restart."""

import json
import logging

import numpy as np
import pytest
import tiny
from http_server import running, tensor

from dynamic_exit.errors import MonitorError, ServingError
from dynamic_exit.serving import ServedFolder, WatchOptions

TOKEN = "knock knock"
FADED = (tiny.draw(4000, 11)[0] * np.float32(0.3)).astype(np.float32)


def options(state, agreement=0.8):
    return WatchOptions(check_share=1, adapt=True, agreement=agreement, state=state)


def test_a_server_adapts_shows_it_keeps_it_and_is_switched_back(ran, tmp_path, caplog):
    state = tmp_path / "monitor.json"
    model = ServedFolder(ran.folder, "tiny", watching=options(state))
    first, points = model.point_in_use, []
    for start in range(0, len(FADED), 50):
        points.append(model.run({"input": FADED[start : start + 50]}).point)
    assert list(dict.fromkeys(points)) == [first, "backbone", "adapted"] and model.point_in_use == "adapted"
    # kept at the change, though the process might have been killed since
    assert json.loads(state.read_text())["adaptation"]["used"]
    again = ServedFolder(ran.folder, "tiny", watching=options(state))
    with running(again, token=TOKEN) as server:
        client = server.client
        assert client.call("GET", "/operating-point").json["operating_point"] == "adapted"
        reply = client.infer(json.dumps({"inputs": [tensor("input", FADED[:3])]}).encode())
        assert reply.json["parameters"]["operating_point"] == "adapted"
        figures = client.figures()
        assert 'dynamic_exit_server_operating_point{operating_point="adapted"} 1.0' in figures
        assert 'dynamic_exit_adapted{model="tiny"} 1.0' in figures
        assert f'dynamic_exit_adaptations_total{{model="tiny"}} {again.monitor.adaptation.changes}.0' in figures
        body = json.dumps({"name": first}).encode()
        reply = client.call("PUT", "/operating-point", body, {"Authorization": f"Bearer {TOKEN}"})
        assert reply.json["operating_point"] == first == again.point_in_use
    again.close()
    assert ServedFolder(ran.folder, "tiny", watching=options(state)).point_in_use == first
    with pytest.raises(MonitorError, match="an adaptation with agreement, probability and samples of .0.8, 0.95, 250"):
        ServedFolder(ran.folder, "tiny", watching=options(state, 0.9))


def test_inputs_are_watched_unless_they_are_left_out(ran, tmp_path, caplog):
    state = tmp_path / "monitor.json"
    watched = ServedFolder(ran.folder, "tiny", watching=WatchOptions(check_share=0))
    watched.run({"input": FADED[:256]})
    assert watched.monitor.status().alarms[0].kind == "inputs"
    alone = ServedFolder(ran.folder, "tiny", watching=WatchOptions(check_share=0, state=state, inputs=False))
    alone.run({"input": FADED[:256]})
    assert "inputs" not in alone.monitor.status().evidence and alone.monitor.status().requests == 256
    alone.close()
    with caplog.at_level(logging.INFO, logger="dynamic_exit"):
        ServedFolder(ran.folder, "tiny", watching=WatchOptions(state=state))
    assert "statistics of inputs are not watched: the state was begun without them" in caplog.text


def test_a_state_that_cannot_be_written_is_told_first_and_never_costs_an_answer(ran, tmp_path, caplog):
    with pytest.raises(ServingError, match="the state '.*none/monitor.json' cannot be written"):
        ServedFolder(ran.folder, "tiny", watching=options(tmp_path / "none" / "monitor.json"))
    (folder := tmp_path / "gone").mkdir()
    model = ServedFolder(ran.folder, "tiny", watching=options(folder / "monitor.json"))
    folder.rmdir()
    with caplog.at_level(logging.ERROR, logger="dynamic_exit"):
        model.close()
    assert "the monitor's state cannot be written to" in caplog.text
    assert len(model.run({"input": FADED[:3]}).exit_index) == 3
