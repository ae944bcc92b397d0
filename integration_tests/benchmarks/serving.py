"""What HTTP costs, and whether an answer is lost: `python serving.py FOLDER [--rows 1 8 64] [--rounds 9] [--soak N]`.

FOLDER is one that `dynamic-exit run` wrote; inputs are bytes at random (seed 0), or those of `--data FILE.npy`.
Without `--soak`: 8 clients, in a process of their own, send binary tensors of so many rows to `dynamic-exit serve`, in
turn with calls of the same file in one process at the same batch size, by 8 threads and by one. Medians over rounds and
half the distance of their quartiles; the bar is 85 % of the throughput. Beside other work the processor time, in which
that of the clients counts too, tells more than the rate. `--serve max-delay=2 max-batch=32` passes options.
With `--soak N`: N requests by 8 clients while a ninth switches operating points all the time. Every answer is compared
with that of one thread at the point that it names; lost and wrong answers are counted, and the memory of the server is
read after a tenth of them and at the end.
"""

import argparse
import http.client
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime

from dynamic_exit import load_runner
from dynamic_exit.serving.tensors import datatype_of

CLIENTS, TOKEN, SECONDS = 8, "of the benchmark", 3.0


class Server:
    """`dynamic-exit serve` in a process of its own, at a free port."""

    def __init__(self, folder: Path, *options: str):
        command = [
            sys.executable,
            "-m",
            "dynamic_exit",
            "serve",
            str(folder),
            "--port",
            "0",
            "--name",
            "model",
            "--quiet",
            *options,
        ]
        began = time.perf_counter()
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "DYNAMIC_EXIT_TOKEN": TOKEN}
        )
        assert self._process.stdout is not None
        found = re.search(r":(\d+), at", self._process.stdout.readline())
        assert found, "the server did not start"
        self.port = int(found[1])
        self.started_in = time.perf_counter() - began

    def megabytes(self) -> float:
        """Resident memory."""
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1000  # type: ignore[index]

    def seconds(self) -> float:
        """Processor time that it has taken."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait()


class Sender:
    """One client with one connection."""

    def __init__(self, port: int, name: str):
        self._connection, self._name = http.client.HTTPConnection("127.0.0.1", port, timeout=120), name

    def body(self, rows: np.ndarray) -> tuple[bytes, dict[str, str]]:
        size = {"binary_data_size": rows.nbytes}
        tensor = {"name": self._name, "datatype": datatype_of(rows.dtype), "shape": rows.shape, "parameters": size}
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        return head + rows.tobytes(), {"Inference-Header-Content-Length": str(len(head))}

    def send(self, body: bytes, headers: dict[str, str]) -> tuple[int, str, bytes]:
        """Return the status, the JSON and the binary part of an answer."""
        self._connection.request("POST", "/v2/models/model/infer", body, headers)
        answer = self._connection.getresponse()
        content = answer.read()
        length = int(answer.headers.get("Inference-Header-Content-Length", len(content)))
        return answer.status, content[:length].decode(), content[length:]


def in_turn(ask: Callable[[int], object], seconds: float, workers: int = CLIENTS) -> tuple[int, float, float]:
    """Let threads ask for a while; returns how often they did, in how many seconds, and of how much processor time."""
    counts, ends = [0] * workers, time.perf_counter() + seconds

    def work(client: int) -> None:
        while time.perf_counter() < ends:
            ask(client)
            counts[client] += 1

    began, spent = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, range(workers)))
    return sum(counts), time.perf_counter() - began, time.process_time() - spent


def clients(port: int, name: str, batches: list[np.ndarray], orders: "object", results: "object") -> None:
    """The process of the clients: sends for a while whenever it is told to."""
    senders = [Sender(port, name) for _ in range(CLIENTS)]
    while (size := orders.get()) is not None:  # type: ignore[attr-defined]
        bodies = [sender.body(batches[place][:size]) for place, sender in enumerate(senders)]

        def ask(client: int, senders=senders, bodies=bodies) -> None:
            status, *_ = senders[client].send(*bodies[client])
            assert status == 200

        results.put(in_turn(ask, SECONDS))  # type: ignore[attr-defined]


class _Taken(NamedTuple):
    """What one way of asking took for a while: samples a second, and milliseconds of processor time a sample."""

    rate: float
    processor: float


def throughput(
    folder: Path, samples: np.ndarray, sizes: list[int], rounds: int, threads: int, options: list[str]
) -> None:
    """Print what samples take over HTTP and in process, round about."""
    server = Server(folder, "--threads", str(threads), *options)
    print(f"started in {server.started_in:.2f} s")
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = threads
    runner, context = load_runner(folder, session_options=session_options), get_context("spawn")
    orders, results = context.Queue(), context.Queue()
    batches = [np.roll(samples, -97 * place, axis=0)[: max(sizes)] for place in range(CLIENTS)]
    process = context.Process(target=clients, args=(server.port, runner.input_names[0], batches, orders, results))
    process.start()
    try:
        for size in sizes:
            parts = [batch[:size] for batch in batches]
            found: dict[str, list[_Taken]] = {"HTTP": [], "8 threads": [], "1 thread": []}
            for _ in range(rounds):
                before = server.seconds()
                orders.put(size)
                count, seconds, clients_seconds = results.get(timeout=60 + SECONDS)
                spent = server.seconds() - before + clients_seconds
                found["HTTP"].append(_Taken(count * size / seconds, 1000 * spent / count / size))
                for name, workers in (("8 threads", CLIENTS), ("1 thread", 1)):
                    count, seconds, spent = in_turn(lambda client, parts=parts: runner(parts[client]), SECONDS, workers)
                    found[name].append(_Taken(count * size / seconds, 1000 * spent / count / size))
            for name, taken in found.items():
                rates, times = zip(*taken, strict=True)
                line = (
                    f"{size:4} rows, {name:9}: {_middle(rates, 0)} a second, {_middle(times, 3)} ms of processor time"
                )
                if name != "HTTP":
                    shares = [http.rate / each.rate for http, each in zip(found["HTTP"], taken, strict=True)]
                    less = [each.processor / http.processor for http, each in zip(found["HTTP"], taken, strict=True)]
                    line += f"; HTTP reaches {_middle(shares, 3)} of it, by processor time {_middle(less, 3)}"
                print(line, flush=True)
        orders.put(None)
        process.join()
    finally:
        process.terminate()
        server.stop()


def _middle(values: Sequence[float], digits: int) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.{digits}f} ± {(high - low) / 2:.{digits}f}"


def soak(folder: Path, samples: np.ndarray, requests: int, options: list[str]) -> bool:
    """Compare every answer with one that was given alone while points are switched; returns whether all was well."""
    server, runner = Server(folder, *options), load_runner(folder)
    names = (*runner.operating_points.names, "backbone")
    places = [(place % 200, 1 + place % 7) for place in range(0, 1400, 7)]
    batches = [samples[start : start + count] for start, count in places]
    alone = {}
    for point in names:
        runner.set_operating_point(point)
        alone[point] = [runner(batch) for batch in batches]
    lock, left, wrong, lost, done, switches = threading.Lock(), [requests], [], [], [0], [0]
    over = threading.Event()
    early: list[float] = []

    def work(client: int) -> None:
        sender = Sender(server.port, runner.input_names[0])
        bodies = [sender.body(batch) for batch in batches]
        while True:
            with lock:
                left[0] -= 1
                if left[0] < 0:
                    return
                number = left[0]
            place = number % len(batches)
            try:
                status, head, content = sender.send(*bodies[place])
            except (OSError, http.client.HTTPException) as error:
                lost.append(repr(error))
                sender = Sender(server.port, runner.input_names[0])
                continue
            if status != 200:
                lost.append(head)
                continue
            expected = alone[json.loads(head)["parameters"]["operating_point"]][place]
            rows, width = expected.logits.shape
            logits = np.frombuffer(content[: 4 * rows * width], "<f4").reshape(rows, width)
            exits = np.frombuffer(content[4 * rows * width :][: 8 * rows], "<i8")
            if not (np.array_equal(exits, expected.exit_index) and np.allclose(logits, expected.logits, 1e-3, 1e-3)):
                wrong.append((number, head))
            with lock:
                done[0] += 1
                if done[0] == requests // 10:
                    early.append(server.megabytes())

    def switch() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        while not over.wait(0.02):
            body = json.dumps({"name": names[switches[0] % len(names)]})
            connection.request("PUT", "/operating-point", body, {"Authorization": f"Bearer {TOKEN}"})
            assert b'"known"' in connection.getresponse().read()
            switches[0] += 1

    switcher, began = threading.Thread(target=switch), time.perf_counter()
    switcher.start()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(work, range(CLIENTS)))
    over.set()
    switcher.join()
    seconds, late = time.perf_counter() - began, server.megabytes()
    code = server.stop()
    print(f"{requests} requests in {seconds:.0f} s, {switches[0]} switches: {len(lost)} lost, {len(wrong)} wrong")
    print(f"memory: {early[0]:.0f} MB after a tenth, {late:.0f} MB at the end; exit code {code}")
    for each in (*lost[:3], *wrong[:3]):
        print(each)
    return not lost and not wrong


def draw(folder: Path) -> np.ndarray:
    """Return 600 inputs of random bytes in the model's shape and type."""
    (spec,) = load_runner(folder).manifest.inputs
    assert all(isinstance(side, int) for side in spec["shape"]), "give --data for inputs of a free shape"
    values = np.random.default_rng(0).integers(0, 256, (600, *spec["shape"]))  # type: ignore[arg-type]
    return values.astype(spec["dtype"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1, help="within an operator, on both sides")
    parser.add_argument("--soak", type=int)
    parser.add_argument("--serve", nargs="*", default=[], help="options of serve, without their dashes: max-delay=2")
    arguments = parser.parse_args()
    samples = np.load(arguments.data) if arguments.data else draw(arguments.folder)
    options = [part for each in arguments.serve for part in (f"--{each.partition('=')[0]}", each.partition("=")[2])]
    if arguments.soak:
        sys.exit(not soak(arguments.folder, samples, arguments.soak, options))
    throughput(arguments.folder, samples, arguments.rows, arguments.rounds, arguments.threads, options)


if __name__ == "__main__":
    main()
