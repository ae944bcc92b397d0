"""`serve --ray` under load while points are switched and replicas are killed: an option of `serving_load.py`."""

import collections
import http.client
import itertools
import json
import os
import signal
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
import psutil

from dynamic_exit import load_runner
from dynamic_exit.serving.protocol import LENGTH_HEADER
from dynamic_exit.serving.tensors import datatype_of

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "helpers"))
from commands import Command, begun

TOKEN, CLIENTS, NAME = "knock knock", 8, "loaded"
# seconds for an answer with all that is tried again, and between two tries
PATIENCE, PAUSE = 120.0, 0.05
SAMPLES, TOLERANCE = 200, 1e-3


class Counts(NamedTuple):
    """How many requests there are, how often the point is switched meanwhile, and how many replicas are killed."""

    requests: int
    switches: int
    kills: int


def run(folder: Path, counts: Counts, replicas: int = 2, seed: int = 0) -> bool:
    """Load a server, print what came of it, and return whether all was well.

    Args:
        folder: One that `dynamic-exit run` wrote, for a single input of a fixed shape.
        counts: What happens.
        replicas: How many serve; each takes a processor.
        seed: Draws the samples.
    """
    with tempfile.TemporaryDirectory() as place:
        os.environ["DYNAMIC_EXIT_TOKEN"] = TOKEN
        options = ("--ray", "--replicas", replicas, "--port", 0, "--name", NAME)
        command = begun(Path(place, "log"), "serve", folder, *options)
        try:
            command.until(lambda: f"serving '{NAME}'" in command.said)
            port = int(command.said.partition("http://127.0.0.1:")[2].partition(",")[0])
            return Load(folder, command, port, counts, replicas, seed).run()
        finally:
            if psutil.pid_exists(command.pid):
                command.signalled(signal.SIGTERM)


class Load:
    """Requests to one server, and what was seen of them; arguments as for `run`."""

    def __init__(self, folder: Path, command: Command, port: int, counts: Counts, replicas: int, seed: int):
        self._command, self._port, self._counts, self._replicas = command, port, counts, replicas
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        runner = load_runner(folder, session_options=options)
        (spec,) = runner.manifest.inputs
        random = np.random.default_rng(seed)
        self._rows = random.normal(100, 60, (SAMPLES, *spec["shape"])).astype(spec["dtype"])
        self._head = {"name": spec["name"], "shape": [1, *spec["shape"]], "datatype": datatype_of(spec["dtype"])}
        points = runner.operating_points
        self._points = (*points.names, *([] if points.last_stage else ["backbone"]))
        self._expected = {point: self._replay(runner, point) for point in self._points}
        self._numbers = itertools.count()  # which is atomic
        self._lock = threading.Lock()
        self._in_force = [self._points[0]]  # one, or two while a switch is under way
        self._started = 0  # switches so far
        self._answered, self._early = 0, 0.0
        self._counted: collections.Counter[str] = collections.Counter()
        self._over = threading.Event()

    def _replay(self, runner, point: str) -> tuple[np.ndarray, np.ndarray]:
        runner.set_operating_point(point)
        answers = [runner(self._rows[place : place + 1]) for place in range(SAMPLES)]
        return np.concatenate([each.logits for each in answers]), np.concatenate([each.exit_index for each in answers])

    def run(self) -> bool:
        connection = Connection(self._port)
        assert self._switch(connection, self._points[0]), "the server does not switch"
        began = time.perf_counter()
        aside = [threading.Thread(target=work) for work in (self._switch_often, self._kill_often)]
        for thread in aside:
            thread.start()
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(lambda _: self._ask_often(), range(CLIENTS)))
        seconds = time.perf_counter() - began
        self._over.set()
        for thread in aside:
            thread.join()
        found, late = self._counted, self._megabytes()
        early = self._early or late
        print(f"{self._answered:,} of {self._counts.requests:,} requests answered in {seconds:.0f} s")
        print(f"{found['switches']} switches, {found['kills']} replicas killed, {found['retried']} requests sent again")
        print(f"lost {found['lost']}, wrong {found['wrong']}, at a point that was not in force {found['mixed']}")
        print(f"processes beside replicas: {early:.0f} MB after a tenth of the requests, {late:.0f} MB at the end")
        whole = found["switches"] == self._counts.switches and found["kills"] == self._counts.kills
        return whole and not (found["lost"] or found["wrong"] or found["mixed"])

    def _ask_often(self) -> None:
        connection = Connection(self._port)
        while (number := next(self._numbers)) < self._counts.requests:
            self._ask(connection, number % SAMPLES)
            if number == self._counts.requests // 10:
                self._early = self._megabytes()
            with self._lock:
                self._answered += 1

    def _ask(self, connection: "Connection", sample: int) -> None:
        row = self._rows[sample : sample + 1]
        head = {"inputs": [{**self._head, "parameters": {"binary_data_size": row.nbytes}}]}
        text = json.dumps({**head, "parameters": {"binary_data_output": True}}).encode()
        ends = time.monotonic() + PATIENCE
        while time.monotonic() < ends:
            with self._lock:
                before, allowed = self._started, {*self._in_force}
            reply = connection.ask("POST", f"/v2/models/{NAME}/infer", text + row.tobytes(), {LENGTH_HEADER: len(text)})
            if reply is not None and reply[0] == 200:
                with self._lock:
                    # what began before a switch may be answered at any point until now
                    after = {*self._in_force, *(self._points if self._started > before + 1 else ())}
                self._check(sample, reply, allowed | after)
                return
            self._count("retried")
            time.sleep(PAUSE)
        self._count("lost")

    def _check(self, sample: int, reply: tuple[int, int, bytes], allowed: set[str]) -> None:
        _, length, content = reply
        head = json.loads(content[:length])
        point, arrays, place = head["parameters"]["operating_point"], {}, length
        for output, dtype in zip(head["outputs"], ("<f4", "<i8", "<f4"), strict=True):
            size = output["parameters"]["binary_data_size"]
            arrays[output["name"]] = np.frombuffer(content[place : place + size], dtype)
            place += size
        logits, stages = self._expected[point]
        close = np.allclose(arrays["logits"], logits[sample], rtol=TOLERANCE, atol=TOLERANCE * np.abs(logits).max())
        if not close or arrays["exit_index"][0] != stages[sample]:
            self._count("wrong")
        if point not in allowed:
            self._count("mixed")

    def _count(self, what: str) -> None:
        with self._lock:
            self._counted[what] += 1

    def _due(self, done: int, of: int) -> bool:
        """Whether the next of so many things that happen evenly over all requests is due, or they are over."""
        share = (done + 1) / (of + 1)
        while not self._over.is_set() and self._answered < share * self._counts.requests:
            time.sleep(0.005)
        return done < of

    def _switch_often(self) -> None:
        connection, done = Connection(self._port), 0
        while self._due(done, self._counts.switches):
            point = self._points[(done + 1) % len(self._points)]
            if not self._switch(connection, point):
                return
            self._count("switches")
            done += 1

    def _switch(self, connection: "Connection", point: str) -> bool:
        """Switch all replicas, again where the one that is asked has gone; return whether it was done in time."""
        with self._lock:
            self._started += 1
            self._in_force = [*self._in_force[-1:], point]
        ends, body = time.monotonic() + PATIENCE, json.dumps({"name": point}).encode()
        while time.monotonic() < ends:
            reply = connection.ask("PUT", "/operating-point", body, {"Authorization": f"Bearer {TOKEN}"})
            if reply is not None and reply[0] == 200:
                with self._lock:
                    self._in_force = [point]
                return True
            time.sleep(PAUSE)
        return False

    def _kill_often(self) -> None:
        done = 0
        while self._due(done, self._counts.kills):
            ends = time.monotonic() + PATIENCE
            while len(found := self._processes()[1]) < self._replicas and time.monotonic() < ends:
                time.sleep(PAUSE)
            if not found:
                return
            found[done % len(found)].kill()
            self._count("kills")
            done += 1

    def _processes(self) -> tuple[list[psutil.Process], list[psutil.Process]]:
        """Return the server's processes beside replicas, and the replicas."""
        every = psutil.Process(self._command.pid).children(recursive=True)
        replicas = [each for each in every if title(each).startswith("ray::ServeReplica")]
        return [each for each in every if each not in replicas], replicas

    def _megabytes(self) -> float:
        total = 0
        for each in self._processes()[0]:
            try:
                total += each.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total / 1e6


class Connection:
    """A connection that stays open, and is opened anew where it was closed."""

    def __init__(self, port: int):
        self._port = port
        self._open: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str, body: bytes, headers: dict[str, object]) -> tuple[int, int, bytes] | None:
        """Return the status of the answer, the bytes of JSON in it, and it; None where none came."""
        try:
            if self._open is None:
                self._open = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
            self._open.request(method, path, body, {name: str(value) for name, value in headers.items()})
            answer = self._open.getresponse()
            content = answer.read()
            return answer.status, int(answer.getheader(LENGTH_HEADER) or len(content)), content
        except (OSError, http.client.HTTPException):
            if self._open is not None:
                self._open.close()
            self._open = None
            return None


def title(process: psutil.Process) -> str:
    """Return what a process calls itself; empty where it has gone."""
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""
