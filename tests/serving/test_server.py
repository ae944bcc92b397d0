"""The real server on loopback, with a folder that was run."""

import http.client
import json
import shutil
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tiny
from http_server import PATIENCE, running, tensor, until
from prometheus_client.parser import text_string_to_metric_families

from dynamic_exit import load_runner
from dynamic_exit.serving import ServedFolder, WatchOptions
from dynamic_exit.serving.controller import LoadController
from dynamic_exit.serving.gears import make_gear, read_point_times
from dynamic_exit.serving.server import listen

TOKEN = "knock knock"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
ROWS = tiny.samples("test")[0]
LIMITS = {"max_body": 200_000, "max_rows": 150, "token": TOKEN}


@pytest.fixture(scope="module")
def server(ran):
    """A server that all tests of this module share."""
    with running(ServedFolder(ran.folder, "tiny", watching=WatchOptions()), **LIMITS) as started:
        yield started


@pytest.fixture(scope="module")
def client(server):
    return server.client


@pytest.fixture(scope="module")
def alone(ran):
    """The model in this process."""
    return load_runner(ran.folder)


class Gated(ServedFolder):
    """A model whose answers wait until a gate opens."""

    def __init__(self, folder):
        super().__init__(folder, "tiny")
        self.gate, self.busy = threading.Event(), threading.Event()

    def run(self, feeds):
        self.busy.set()
        assert self.gate.wait(PATIENCE)
        return super().run(feeds)


def request(rows, **more):
    return {"inputs": [tensor("input", rows)], **more}


def read(reply):
    """Outputs of an answer in JSON, by name."""
    assert reply.status == 200, reply.body
    return {
        each["name"]: np.array(each["data"], {"FP32": np.float32, "INT64": np.int64}[each["datatype"]]).reshape(
            each["shape"]
        )
        for each in reply.json["outputs"]
    }


def sample(text, name, **labels):
    """A figure that Prometheus reads."""
    return sum(
        each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
        if each.name == name and labels.items() <= each.labels.items()
    )


def test_the_protocol_says_what_the_server_has(client, alone):
    assert client.call("GET", "/v2").json["extensions"] == ["binary_tensor_data"]
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/tiny/ready", "/v2/models/tiny/versions/1/ready"):
        assert client.call("GET", path).status == 200
    about = client.call("GET", "/v2/models/tiny").json
    assert about == client.call("GET", "/v2/models/tiny/versions/1").json
    assert about["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 1, 6, 6]}]
    assert {each["name"]: each["shape"] for each in about["outputs"]} == {
        "logits": [-1, 3],
        "exit_index": [-1],
        "confidence": [-1],
    }


def test_answers_are_those_of_the_folder_in_this_process(client, alone):
    reply = client.infer(request(ROWS, id="mine"))
    expected, found = alone(ROWS), read(reply)
    assert reply.json["id"] == "mine"
    assert reply.json["parameters"] == {"operating_point": alone.operating_point.name}
    for name in ("logits", "exit_index", "confidence"):
        assert np.array_equal(found[name], getattr(expected, name))


def in_binary(client, rows):
    """Ask with bytes, in which NaN can be said."""
    head = tensor("input", rows) | {"parameters": {"binary_data_size": rows.nbytes}}
    del head["data"]
    text = json.dumps({"inputs": [head], "parameters": {"binary_data_output": True}}).encode()
    return client.infer(text + rows.tobytes(), {"Inference-Header-Content-Length": str(len(text))})


def test_numbers_that_are_not_finite_are_refused_or_reported_as_configured(client, ran):
    rows = ROWS[:4].copy()
    rows[2, 0, 0, 0] = np.nan
    refused = in_binary(client, rows)
    assert refused.status == 400 and "input 'input' holds NaN or infinity, first in row 2" in refused.json["error"]
    assert in_binary(client, ROWS[:4]).status == 200
    with running(ServedFolder(ran.folder, "tiny", non_finite="report")) as other:
        reply = in_binary(other.client, rows)
        assert reply.status == 200, reply.body
        start = int(reply.headers["inference-header-content-length"])
        logits = np.frombuffer(reply.body[start : start + 48], "<f4")
        assert np.isnan(logits.reshape(4, 3)).all(axis=1).tolist() == [False, False, True, False]


def test_tritons_client_gets_the_same_answers_in_json_and_in_binary(client, alone):
    triton = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")
    other = triton.InferenceServerClient(f"127.0.0.1:{client.port}")
    assert other.is_server_live() and other.is_server_ready() and other.is_model_ready("tiny")
    assert not other.is_model_ready("tinny")
    assert other.get_model_metadata("tiny")["name"] == "tiny" and other.get_server_metadata()["extensions"]
    expected = alone(ROWS)
    for binary_in in (True, False):
        given = triton.InferInput("input", ROWS.shape, "FP32")
        given.set_data_from_numpy(ROWS, binary_data=binary_in)
        for binary_out in (True, False):
            names = ("confidence", "logits", "exit_index")
            wanted = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in names]
            for outputs in (wanted, None):
                found = other.infer("tiny", [given], outputs=outputs, request_id="a")
                for name in names:
                    assert np.array_equal(found.as_numpy(name), getattr(expected, name))
    with pytest.raises(triton.InferenceServerException, match="there is no version '2' of 'tiny'; there is '1'"):
        other.infer("tiny", [given], model_version="2")


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/v2/models/big", 404, "there is no model 'big'; this server has 'tiny'"),
        ("POST", "/v2/models/big/infer", 404, "there is no model 'big'; this server has 'tiny'"),
        ("GET", "/v2/models/tiny/versions/2/ready", 404, "there is no version '2' of 'tiny'; there is '1'"),
        ("GET", "/v3", 404, "there is nothing at GET /v3; `GET /v2` says what the server has"),
        ("GET", "/v2/models/tiny/infer", 405, "there is nothing at GET /v2/models/tiny/infer; `GET /v2` says what"),
        ("POST", "/classify", 501, "model 'tiny' has neither an image processor nor a tokenizer; send tensors to /v2/"),
        ("PUT", "/operating-point", 401, "the token is missing or wrong; send `Authorization: Bearer TOKEN`"),
    ],
)
def test_unknown_addresses_models_and_versions_are_named(client, method, path, status, message):
    reply = client.call(method, path, body=b"{}" if method != "GET" else None)
    assert reply.status == status and reply.json["error"].startswith(message)


@pytest.mark.parametrize(
    ("body", "headers", "status", "message"),
    [
        (b"{", {}, 400, "the request is no JSON: EOF while parsing an object"),
        (request(ROWS[:, :, :5]), {}, 400, "input 'input' must be of shape (batch, 1, 6, 6); got (150, 1, 5, 6)"),
        ({"inputs": [tensor("y", ROWS[:1])]}, {}, 400, "the model takes the inputs input; got y"),
        (request(np.zeros((1, 1, 0, 6))), {}, 400, "input 'input' of shape [1, 1, 0, 6] is empty"),
        (
            request(np.zeros((151, 1, 6, 6))),
            {},
            400,
            "input 'input' has 151 rows; this server takes 1 to 150 in a request",
        ),
        (b" " * 200_001, {}, 413, "the body is larger than 200000 bytes, which is the limit of this server"),
        (b"x", {"Content-Encoding": "gzip"}, 415, "the body is encoded as 'gzip'; send it without compression"),
    ],
    ids=["json", "shape", "name", "empty", "rows", "large", "compressed"],
)
def test_requests_that_cannot_be_answered_are_refused_in_a_sentence(client, body, headers, status, message):
    reply = client.infer(body, headers)
    assert reply.status == status and reply.json["error"].startswith(message)


def test_a_body_without_a_length_is_limited_too(client):
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=PATIENCE)
    connection.request("POST", client.infer_path, iter([b" " * 80_000] * 3), encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_whole_numbers_are_taken_for_fractions_but_not_cut_to_fit(client, alone):
    whole = np.ones((1, 1, 6, 6), np.int64)
    found = read(client.infer({"inputs": [tensor("input", whole, "INT64")]}))
    assert np.array_equal(found["logits"], alone(whole.astype(np.float32)).logits)


def test_who_has_the_token_switches_and_every_answer_is_of_one_point(client, alone):
    names = client.call("GET", "/operating-point").json["known"]
    assert {"backbone", "frugal"} <= {*names}
    rows = [ROWS[place : place + 5] for place in range(0, 60, 5)]
    expected = {}
    for name in names:
        alone.set_operating_point(name)
        expected[name] = [alone(each) for each in rows]
    alone.set_operating_point(alone.manifest.default)

    def ask(number):
        reply = client.infer(request(rows[number % len(rows)]))
        return number % len(rows), reply.json["parameters"]["operating_point"], read(reply)

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, number) for number in range(48)]
        for name in names * 3:
            reply = client.call("PUT", "/operating-point", {"name": name}, AUTHORIZED)
            assert reply.status == 200 and reply.json["operating_point"] == name
        for each in asked:
            place, point, found = each.result()
            assert np.array_equal(found["exit_index"], expected[point][place].exit_index)
            assert np.allclose(found["logits"], expected[point][place].logits, atol=1e-4)
    reply = client.call("PUT", "/operating-point", {"max_accuracy_drop": 0.1}, AUTHORIZED)
    assert reply.json["operating_point"] == "accuracy-drop-10%"
    client.call("PUT", "/operating-point", {"name": alone.manifest.default}, AUTHORIZED)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            {"name": "frugl"},
            "there is no operating point 'frugl'; known are: accuracy-drop-1%, accuracy-drop-10%, backbone, frugal",
        ),
        ({}, "name an operating point, or give either max_accuracy_drop or budget"),
        ({"point": "frugal"}, "the body is wrong at point: Extra inputs are not permitted"),
        (b"frugal", "the body is no JSON: expected"),
    ],
    ids=["unknown", "empty", "key", "text"],
)
def test_a_switch_to_nowhere_is_refused(client, body, message):
    reply = client.call("PUT", "/operating-point", body, AUTHORIZED)
    assert reply.status == 400 and reply.json["error"].startswith(message)


@pytest.mark.parametrize("header", ["Bearer wrong", TOKEN, f"Basic {TOKEN}", "Bearer ", "Bearer \xe9"])
def test_a_wrong_token_switches_nothing(client, header):
    before = client.call("GET", "/operating-point").json
    reply = client.call("PUT", "/operating-point", {"name": "frugal"}, {"Authorization": header})
    assert reply.status == 401 and reply.headers["www-authenticate"] == "Bearer"
    assert client.call("GET", "/operating-point").json == before


@pytest.mark.parametrize(("goal", "place"), [(3600.0, 0), (1e-6, -1)], ids=["easy", "impossible"])
def test_load_chooses_the_point_and_nobody_else(ran, alone, goal, place):
    points = [point.name for point in alone.operating_points.available]
    with running(ServedFolder(ran.folder, "tiny"), p99=goal, token=TOKEN) as server:
        first = server.client.call("GET", "/operating-point").json["operating_point"]
        assert first == carried(server.client.figures())[0], "before load is known the most accurate"
        answered_at = server.client.infer(request(ROWS[:3])).json["parameters"]["operating_point"]
        figures = server.client.figures()
        gears = carried(figures)
        assert answered_at == gears[place] and {*gears} <= {*points}
        assert sample(figures, "dynamic_exit_server_operating_point", operating_point=answered_at) == 1
        assert sample(figures, "dynamic_exit_server_goal_seconds") == goal
        assert sample(figures, "dynamic_exit_server_slowness") > 0
        shifts = sample(figures, "dynamic_exit_server_shifts_total", reason="rate")
        assert shifts == (len(gears) > 1 and place == -1)
        refused = server.client.call("PUT", "/operating-point", {"name": "frugal"}, AUTHORIZED)
        assert refused.status == 409
        assert refused.json["error"] == (
            "this server chooses operating points by load, so that nobody else may; start it without --p99"
        )


def carried(text):
    """Points that a controller may take, from accurate to fast."""
    (family,) = (each for each in text_string_to_metric_families(text) if each.name.endswith("_carried_rows"))
    return [each.labels["operating_point"] for each in family.samples]


class Restless(LoadController):
    """Takes another gear for every batch."""

    def choose(self, now, rows, waited):
        self._place = (self._place + 1) % len(self._gears)
        return self.gear._replace(batch=4)


class RestlessFolder(ServedFolder):
    def load_controller(self, p99, options):
        times = read_point_times(self.folder, self._points)
        return Restless([make_gear(each, p99, 4) for each in times], p99, p99, 4)


def test_however_often_load_switches_each_request_is_answered_once_and_at_one_point(ran, alone):
    rows = [ROWS[place : place + 1 + place % 3] for place in range(40)]
    expected = {}
    for point in alone.operating_points.available:
        alone.set_operating_point(point.name)
        expected[point.name] = [alone(each) for each in rows]
    alone.set_operating_point(alone.manifest.default)
    with running(RestlessFolder(ran.folder, "tiny"), p99=60.0) as server, ThreadPoolExecutor(4) as pool:
        replies = [*pool.map(lambda each: server.client.infer(request(each)), rows)]
        answered = sample(server.client.figures(), "dynamic_exit_server_rows_total")
    points = [reply.json["parameters"]["operating_point"] for reply in replies]
    assert answered == sum(map(len, rows)) and {*points} == {*expected}
    for place, (reply, point) in enumerate(zip(replies, points, strict=True)):
        found = read(reply)
        assert np.array_equal(found["exit_index"], expected[point][place].exit_index)
        assert np.allclose(found["logits"], expected[point][place].logits, atol=1e-4)


def test_parts_of_an_answer_wait_for_no_acknowledgement():
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_prometheus_reads_requests_rows_stages_points_and_the_monitor(client, alone):
    before = client.figures()
    client.infer(request(ROWS[:7]))
    client.infer(b"{")
    after, point = client.figures(), alone.operating_point.name

    def more(name, **labels):
        return sample(after, name, **labels) - sample(before, name, **labels)

    assert more("dynamic_exit_server_requests_total", endpoint="infer", code="200") == 1
    assert more("dynamic_exit_server_requests_total", endpoint="infer", code="400") == 1
    assert more("dynamic_exit_server_rows_total", operating_point=point) == 7
    assert more("dynamic_exit_server_batch_rows_sum") == 7
    assert more("dynamic_exit_answers_total", model="tiny") == 7
    assert sample(after, "dynamic_exit_server_operating_point") == 1
    assert sample(after, "dynamic_exit_server_requests_in_flight") == 0


def test_a_client_that_hangs_up_harms_nobody(ran):
    model = Gated(ran.folder)
    with running(model) as server:
        client, content = server.client, json.dumps(request(ROWS[:1])).encode()
        head = f"POST {client.infer_path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", client.port)) as half:
            half.sendall(head + content[:10])  # goes before its body is there
        with ThreadPoolExecutor(2) as pool:
            kept = pool.submit(client.infer, request(ROWS[:3]))
            assert model.busy.wait(PATIENCE)
            with socket.create_connection(("127.0.0.1", client.port)) as gone:
                gone.sendall(head + content)
                until(lambda: sample(client.figures(), "dynamic_exit_server_rows_waiting") == 1)
            labels = {"endpoint": "infer", "code": "499"}
            until(lambda: sample(client.figures(), "dynamic_exit_server_requests_total", **labels) == 2)
            model.gate.set()
            assert kept.result().status == 200
        assert client.infer(request(ROWS[:1])).status == 200
        assert sample(client.figures(), "dynamic_exit_server_rows_total") == 4, "nothing was done for who has gone"


def test_too_many_requests_are_sent_away_and_those_accepted_are_answered_though_it_stops(ran):
    model = Gated(ran.folder)
    with running(model, max_requests=3) as server, ThreadPoolExecutor(3) as pool:
        client = server.client
        accepted = [pool.submit(client.infer, request(ROWS[:rows])) for rows in (1, 2, 3)]
        until(lambda: sample(client.figures(), "dynamic_exit_server_requests_in_flight") == 3)
        reply = client.infer(request(ROWS[:1]))
        assert reply.status == 429 and reply.headers["retry-after"] == "1"
        assert reply.json["error"] == (
            "3 requests are in work, which is all that this server takes at once; try again later"
        )
        refused = client.call("PUT", "/operating-point", {"name": "frugal"}, AUTHORIZED)
        assert refused.status == 403 and refused.json["error"].startswith("this server was started without a token")
        server.stop()
        model.gate.set()
        assert [len(read(each.result())["exit_index"]) for each in accepted] == [1, 2, 3]
        server.join()
        with pytest.raises(ConnectionRefusedError):
            client.call("GET", "/v2")


def test_who_waits_for_too_long_is_told_so(ran):
    model = Gated(ran.folder)
    with running(model, timeout=0.05) as server, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(server.client.infer, request(ROWS[:1])) for _ in range(2)]
        for each in waiting:
            assert each.result().status == 504
            assert each.result().json["error"] == "no answer was there within 0.05 s; try again later"
        content = f"POST {server.client.infer_path} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{{".encode()
        with socket.create_connection(("127.0.0.1", server.client.port), timeout=PATIENCE) as slow:
            slow.sendall(content)
            assert slow.recv(100).startswith(b"HTTP/1.1 408")
        model.gate.set()


def test_a_folder_that_is_swapped_changes_no_answer(ran, ran_float, alone, tmp_path):
    folder = tmp_path / "served"
    shutil.copytree(ran.folder, folder)
    (folder / "preprocessor_config.json").write_text("{}")
    with running(ServedFolder(folder, "tiny")) as server:
        shutil.rmtree(folder)
        shutil.copytree(ran_float.folder, folder)
        (folder / "preprocessor_config.json").write_text("{}")
        assert np.array_equal(read(server.client.infer(request(ROWS)))["logits"], alone(ROWS).logits)
        reply = server.client.call("POST", "/classify", b"x", {"Content-Type": "image/png"})
        assert reply.status == 503
        assert reply.json["error"] == "folder 'served' has changed since the server loaded it; restart the server"
