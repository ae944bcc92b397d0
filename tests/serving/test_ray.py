"""The command on a cluster of Ray whose two nodes are on this machine, one replica on each; nothing leaves loopback."""

import signal
import urllib.request
from importlib.util import find_spec

import documents
import psutil
import pytest
import tiny
from commands import begun
from http_server import Client, running, tensor, until
from ray_cluster import running_cluster

from dynamic_exit import load_runner
from dynamic_exit.serving import ServedFolder

if find_spec("ray") is None:  # not imported: it would start threads in this process
    pytest.skip("the extra `ray` is not installed", allow_module_level=True)

TOKEN = "knock knock"
PAGE = "docs/how-to/scale-out.md"
ROWS = tiny.samples("test")[0]


@pytest.fixture(scope="module")
def cluster():
    """What leads to a cluster, and its nodes."""
    with running_cluster() as found:
        yield found


@pytest.fixture(scope="module")
def server(ran, cluster, tmp_path_factory):
    """The command, until a test has stopped it, and a client of what it serves."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**cluster[0], "DYNAMIC_EXIT_TOKEN": TOKEN}.items():
            patch.setenv(name, value)
        log = tmp_path_factory.mktemp("ray") / "log.txt"
        line = next(block.code for block in documents.blocks(PAGE) if block.language == "sh")
        program, *arguments = line.replace("build/quickstart", str(ran.folder)).split()
        assert program == "dynamic-exit"
        command = begun(log, *arguments, "--port", "0", "--name", "tiny")
    try:
        command.until(lambda: "serving 'tiny'" in command.said)
        address = command.said.partition("http://127.0.0.1:")[2]
        yield command, Client(int(address.partition(",")[0]), "tiny")
    finally:
        if psutil.pid_exists(command.pid):
            command.signalled(signal.SIGTERM)


@pytest.fixture
def nodes(cluster):
    return cluster[1]


@pytest.fixture
def client(server):
    return server[1]


@pytest.fixture(scope="module")
def alone(ran):
    """The model in this process."""
    return load_runner(ran.folder)


def request(rows):
    return {"inputs": [tensor("input", rows)]}


def point_of(client):
    return client.call("GET", "/operating-point").json["operating_point"]


def test_both_nodes_answer_as_the_server_of_one_process_does(client, nodes, ran):
    assert [len(node.replicas) for node in nodes] == [1, 1]
    bodies = [request(ROWS[start : start + 1 + start % 3]) for start in range(40)]
    bodies += [b"{", request(ROWS[:0]), {"inputs": []}]
    asked = [
        ("GET", path, None) for path in ("/v2", "/v2/models/tiny", "/v2/models/tinny", "/nothing", "/operating-point")
    ]
    asked += [("POST", client.infer_path, body) for body in bodies] + [("POST", "/classify", b"x")]
    with running(ServedFolder(ran.folder, "tiny", threads=1), token=TOKEN) as other:
        for method, path, body in asked:
            expected, found = (each.call(method, path, body) for each in (other.client, client))
            assert (found.status, found.body) == (expected.status, expected.body)
    total = sum(len(body["inputs"][0]["data"]) for body in bodies[:40]) / ROWS[0].size
    until(lambda: sum(map(rows_of, nodes)) == total)  # Ray collects them every half second here
    assert all(rows_of(node) for node in nodes)


def rows_of(node):
    """Rows that were answered on a node, as Prometheus reads it from Ray."""
    text = urllib.request.urlopen(f"http://127.0.0.1:{node.metrics_port}/metrics").read().decode()
    lines = [line for line in text.splitlines() if line.startswith("ray_dynamic_exit_server_rows")]
    return sum(float(line.split()[-1]) for line in lines)


def test_figures_of_one_replica_are_not_shown_as_those_of_all(client):
    reply = client.call("GET", "/metrics")
    assert reply.status == 501 and reply.json["error"].endswith("those of all are in Ray's metrics")


def test_a_switch_reaches_every_replica_and_those_that_start_later(client, nodes, alone):
    def switch(point, token=TOKEN):
        return client.call("PUT", "/operating-point", {"name": point}, {"Authorization": f"Bearer {token}"})

    assert switch("backbone", "wrong").status == 401
    for point in ("backbone", alone.operating_points.available[0].name, "backbone"):
        assert switch(point).json["operating_point"] == point
        assert {point_of(client) for _ in range(20)} == {point}
    before = {each for node in nodes for each in node.replicas}
    for each in before:
        each.kill()
    until(lambda: all({*node.replicas} - before for node in nodes))
    until(lambda: client.call("GET", "/operating-point").status == 200)
    assert {point_of(client) for _ in range(20)} == {"backbone"}


def test_it_stops_with_all_that_it_started_and_leaves_the_cluster_to_others(server, nodes):
    command, client = server
    assert command.signalled(signal.SIGTERM) == 143, command.said
    assert command.said.endswith("dynamic-exit: stopped; all replicas have been stopped\n")
    until(lambda: [len(node.replicas) for node in nodes] == [0, 0])
    with pytest.raises(ConnectionRefusedError):
        client.call("GET", "/v2")
    assert all(node.raylet.is_running() for node in nodes)
