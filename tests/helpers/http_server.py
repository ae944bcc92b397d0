"""The real server on loopback, in a thread of this process, and requests to it."""

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from dynamic_exit.serving import ServedFolder, ServingOptions
from dynamic_exit.serving.server import listen
from dynamic_exit.serving.uvicorn_server import make_server

# far beyond what an answer takes on a machine that does much else
PATIENCE = 120.0


class Reply(NamedTuple):
    """What a server answers."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Sends requests to one server; each on a connection of its own."""

    def __init__(self, port: int, name: str):
        self.port, self.name = port, name
        self.infer_path = f"/v2/models/{name}/infer"

    def call(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Reply:
        """Send a request; what is neither text nor bytes goes as JSON."""
        content = body if isinstance(body, bytes | str | None) else json.dumps(body)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, content, dict(headers or {}))
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.headers), answer.read())
        finally:
            connection.close()

    def infer(self, body: Any, headers: Mapping[str, str] | None = None) -> Reply:
        return self.call("POST", self.infer_path, body, headers)

    def figures(self) -> str:
        """What Prometheus reads."""
        return self.call("GET", "/metrics").body.decode()


def tensor(name: str, array: Any, datatype: str = "FP32") -> dict[str, Any]:
    """A tensor of a request, in JSON."""
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "data": array.ravel().tolist()}


class Running:
    """A server that runs until the block ends, or until it is stopped."""

    def __init__(self, model: ServedFolder, options: ServingOptions):
        listener = listen("127.0.0.1", 0)
        self.client = Client(listener.getsockname()[1], model.name)
        self._server = make_server(model, options)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]})
        self._thread.start()
        until(lambda: self._server.started)

    def stop(self) -> None:
        """Stop it as a signal does."""
        self._server.should_exit = True

    def join(self) -> None:
        """Wait until it has stopped."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


@contextlib.contextmanager
def running(model: ServedFolder, **options: Any) -> Iterator[Running]:
    """Run a server for a block."""
    server = Running(model, ServingOptions(**options))
    try:
        yield server
    finally:
        server.stop()
        server.join()


def until(reached: Any) -> None:
    """Wait for a moment that must come."""
    ends = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < ends, "nothing came of it"
        time.sleep(0.005)
