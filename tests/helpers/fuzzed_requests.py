"""Requests to a server that are broken at random: through its application without a socket, and over loopback."""

import asyncio
import io
import json
import logging
import socket
from pathlib import Path
from typing import Any

import numpy as np
from fuzzing import changed_bytes, changed_json
from hypothesis import strategies as st

from dynamic_exit.serving import ServedFolder, ServingOptions, create_app
from dynamic_exit.serving.protocol import LENGTH_HEADER
from dynamic_exit.serving.refusals import RequestError

TOKEN = "knock knock"
OPTIONS = ServingOptions(max_rows=50, max_body=100_000, timeout=20.0, token=TOKEN)
# an answer to what is broken may not take longer, in seconds
PATIENCE = 30.0
INFER = "/v2/models/fuzzed/infer"
#: Addresses, with what each is asked with.
ADDRESSES = (
    *[("POST", INFER)] * 12, ("POST", "/v2/models/fuzzed/versions/1/infer"), ("POST", "/v2/models/other/infer"),
    ("POST", "/v2/models/fuzzed/versions/2/infer"), *[("PUT", "/operating-point")] * 3, ("GET", "/operating-point"),
    ("GET", "/v2"), ("GET", "/v2/models/fuzzed"), ("GET", "/v2/models/%00%ff/ready"), ("POST", "/v2/health/live"),
)  # fmt: skip
_HEADERS = ("Content-Type", "Content-Encoding", "Content-Length", "Authorization", LENGTH_HEADER, "X", "Accept")
_VALUES = ("", "-1", "0", "7", "1e3", "9" * 40, "gzip", "application/json; charset=\xff", "Bearer", "Bearer é", "\t")


class Requests:
    """Draws requests to the server of a folder and tries them.

    Args:
        folder: A folder that a run of a recipe has written, whose model takes one input of floats.
    """

    def __init__(self, folder: Path):
        self._model = ServedFolder(folder, "fuzzed")
        (spec,) = self._model.inputs
        self._rows = np.random.default_rng(0).normal(size=(2, *spec["shape"])).astype(np.float32)
        self._tensor = {"name": spec["name"], "shape": [*self._rows.shape], "datatype": "FP32"}
        self._loop: asyncio.Runner | None = None
        self._asked = 0

    def try_request(self, draw: Any) -> None:
        """Try an address, through the application."""
        method, path = draw(st.sampled_from(ADDRESSES))
        body, headers = self._switch(draw) if path == "/operating-point" else self._infer(draw)
        self._try(draw, method, path, headers, body)

    def try_picture(self, draw: Any) -> None:
        """Try a picture, through the application."""
        kind = draw(st.sampled_from(("image/png", "image/png", "image/jpeg", "image/", "text/plain", "", "a/b" * 90)))
        self._try(draw, "POST", "/classify", {"Content-Type": kind}, changed_bytes(draw, self._picture(draw)))

    def try_loopback(self, draw: Any) -> None:
        """Try bytes on a connection to the real server."""
        body, headers = self._infer(draw)
        lines = [f"POST {INFER} HTTP/1.1", "Host: here", "Connection: close", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join([*lines, "", ""]).encode("utf-8", "replace")
        content = head + body
        if draw(st.integers(0, 2)) == 0:
            content = changed_bytes(draw, head) + body
        status = self._send(content)
        self._check_alive_on_loopback()
        if status not in (b"", b"200") and not b"400" <= status < b"500" and status not in (b"501", b"505"):
            raise AssertionError(f"status {status!r}")
        if status != b"200":
            raise RequestError(400, "refused")  # type: ignore[arg-type]

    def whole(self) -> bytes:
        """A request that is answered."""
        return json.dumps({"inputs": [{**self._tensor, "data": self._rows.ravel().tolist()}]}).encode()

    def _infer(self, draw: Any) -> tuple[bytes, dict[str, str]]:
        if draw(st.booleans()):
            request = json.loads(self.whole())
            request |= draw(st.sampled_from(({}, {"id": "7"}, {"outputs": [{"name": "logits"}]})))
            if draw(st.booleans()):
                return changed_bytes(draw, json.dumps(request).encode()), {}
            return _dumped(changed_json(draw, request)), {}
        size = self._rows.nbytes
        request = {"inputs": [{**self._tensor, "parameters": {"binary_data_size": size}}]}
        if draw(st.booleans()):
            request["parameters"] = {"binary_data_output": True}
        text = _dumped(changed_json(draw, request) if draw(st.booleans()) else request)
        binary = self._rows.tobytes()
        if draw(st.booleans()):
            binary = changed_bytes(draw, binary)
        length = draw(st.sampled_from((len(text), len(text), len(text) - 1, len(text) + 3, 0, 10**9)))
        return text + binary, {LENGTH_HEADER: str(length)}

    def _switch(self, draw: Any) -> tuple[bytes, dict[str, str]]:
        goal = draw(st.sampled_from(({"name": self._model.point_names[0]}, {"budget": 0.5}, {"max_accuracy_drop": 0})))
        headers = {"Authorization": draw(st.sampled_from((f"Bearer {TOKEN}", f"Bearer {TOKEN}", "Bearer x", "")))}
        return _dumped(changed_json(draw, goal)), headers

    def _picture(self, draw: Any) -> bytes:
        from PIL import Image

        buffer = io.BytesIO()
        size = draw(st.sampled_from(((8, 8), (1, 1), (300, 2))))
        kind = draw(st.sampled_from(("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")))
        Image.new(draw(st.sampled_from(("L", "RGB"))), size, 100).save(buffer, kind)
        return buffer.getvalue()

    def _try(self, draw: Any, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        if draw(st.integers(0, 3)) == 0:
            headers = {**headers, draw(st.sampled_from(_HEADERS)): draw(st.sampled_from(_VALUES))}
        cuts = sorted(draw(st.lists(st.integers(0, max(len(body), 1)), max_size=2)))
        ends = draw(st.sampled_from((True,) * 15 + (False,)))
        status, answer = self._ask(method, path, headers, body, cuts, ends)
        self._asked += 1
        if self._asked % 50 == 0:
            self._check_alive()
        if status == 200:
            return
        if status == 499 and not answer:
            raise RequestError(400, "the client went")  # type: ignore[arg-type]
        told = json.loads(answer)["error"]
        assert (400 <= status < 500 or status == 501) and 0 < len(told) < 2000, f"status {status}: {told}"
        raise RequestError(status, told)  # type: ignore[arg-type]

    def _check_alive(self) -> None:
        status, answer = self._ask("POST", INFER, {}, self.whole(), [], True)
        assert status == 200, answer
        logits = np.array(json.loads(answer)["outputs"][0]["data"], np.float32).reshape(2, -1)
        assert (
            logits.argmax(1).tolist() == self._model.run({self._tensor["name"]: self._rows}).logits.argmax(1).tolist()
        )

    def _ask(
        self, method: str, path: str, headers: dict[str, str], body: bytes, cuts: list[int], ends: bool
    ) -> tuple[int, bytes]:
        """Ask the application as a server does, with the body in parts; without its end, the client hangs up."""
        if self._loop is None:
            self._loop, self._app = asyncio.Runner(), create_app(self._model, OPTIONS)
            self._life = self._app.router.lifespan_context(self._app)
            self._loop.run(self._life.__aenter__())
        parts = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        events = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        if ends:
            events[-1]["more_body"] = False
        else:
            events.append({"type": "http.disconnect"})
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if events:
                return events.pop(0)
            await asyncio.sleep(PATIENCE)  # the client waits for its answer
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "client": ("test", 1),
            "server": ("test", 80),
            "headers": [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers.items()],
        }  # fmt: skip

        async def call() -> None:
            async with asyncio.timeout(PATIENCE):
                await self._app(scope, receive, send)

        self._loop.run(call())
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])

    def _send(self, content: bytes) -> bytes:
        """Send bytes and return the status of the answer; empty where the server closes without one."""
        if not hasattr(self, "_server"):
            from http_server import Running

            logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # it tells of each head that is broken
            self._server = Running(self._model, OPTIONS)
        with socket.create_connection(("127.0.0.1", self._server.client.port), timeout=PATIENCE) as connection:
            try:
                connection.sendall(content)
                connection.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda: connection.recv(65536), b""))
            except (ConnectionError, BrokenPipeError):
                return b""
        return answer.split(b" ", 2)[1] if answer else b""

    def _check_alive_on_loopback(self) -> None:
        self._asked += 1
        if self._asked % 20 == 0:
            assert self._server.client.infer(self.whole()).status == 200

    def close(self) -> None:
        """Stop what was started."""
        if self._loop is not None:
            self._loop.run(self._life.__aexit__(None, None, None))
            self._loop.close()
        if hasattr(self, "_server"):
            self._server.stop()
            self._server.join()


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "replace")
