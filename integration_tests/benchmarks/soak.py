"""A loaded model under load in one process: is an answer wrong, does memory grow, how long does a request take?

    python integration_tests/benchmarks/soak.py FOLDER [--requests 1000000] [--seed 0] [--data FILE.npy]

FOLDER is one that `dynamic-exit run` wrote for a single input, such as build/quickstart; samples are bytes at random,
or those of `--data`. Eight threads call one runner with batches of 1 to 32 rows, while a ninth switches between all
operating points and a tenth asks through the server's queue and gives up half of what it has asked. Some batches are
hostile: all rows constant, numbers of up to 1e30, and rows with NaN or infinity, which must be answered with NaN by the
last stage. Every answer is compared, to the last bit, with what one thread got before for the same batch at one of the
points that were in force during the call.

Bars: no error, no wrong answer, memory within 2 % from a tenth of the requests to their end. Prints these, and
percentiles of the time of a request. Exits with 1 if a bar is missed.
"""

import argparse
import itertools
import sys
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime

from dynamic_exit import load_runner
from dynamic_exit.artifact.standalone import Answers, DynamicExitRunner
from dynamic_exit.serving import Answered
from dynamic_exit.serving.batch_queue import BatchQueue

THREADS, SIZES, GROWTH = 8, (1, 1, 1, 2, 3, 4, 8, 32), 0.02


def main() -> None:
    """Run the requests and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # answers are then equal to the last bit
    runner = load_runner(arguments.folder, session_options=options, non_finite="report")
    batches = draw(runner, arguments.seed, None if arguments.data is None else np.load(arguments.data))
    sys.exit(not Soak(runner, batches, arguments.requests).run())


def draw(runner: DynamicExitRunner, seed: int, samples: np.ndarray | None) -> list[np.ndarray]:
    """Return batches of mixed sizes, a sixth of them hostile."""
    (spec,) = runner.manifest.inputs
    random, shape = np.random.default_rng(seed), [side for side in spec["shape"] if isinstance(side, int)]
    if samples is None:
        assert len(shape) == len(spec["shape"]), "give --data for inputs of a free shape"
        samples = random.integers(0, 256, (600, *shape))
    batches = []
    for place, size in enumerate(SIZES * 30):
        batch = samples[random.integers(0, len(samples), size)].astype(spec["dtype"])
        if place % 6 == 0 and batch.dtype.kind == "f":
            row = place // 6 % size
            hostile = (0.0, 1.0, 255.0, 1e30, np.nan, np.inf, -np.inf)[place // 6 % 7]
            if np.isfinite(hostile):
                batch[row] = hostile
            else:
                batch[row].flat[place % batch[row].size] = hostile
        batches.append(batch)
    return batches


class Soak:
    """Requests to one runner, and what was seen of them.

    Args:
        runner: A model that reports what is not finite.
        batches: What is asked, in turn.
        requests: How many are.
    """

    def __init__(self, runner: DynamicExitRunner, batches: list[np.ndarray], requests: int):
        self._runner, self._batches, self._requests = runner, batches, requests
        points = runner.operating_points
        self._points = (*points.names, *([] if points.last_stage else ["backbone"]))
        self._expected = [self._replay(point) for point in self._points]
        assert self._expected[0] != self._expected[-1], "all points answer alike, so that a mix-up could not be seen"
        self._seconds = np.full(requests, np.nan)  # pages of zeros would be taken later, and look like a leak
        self._numbers = itertools.count()  # which is atomic
        self._history = bytearray(2)  # one byte a switch
        self._faults: list[str] = []
        self._megabytes: list[float] = []
        self._over = threading.Event()

    def _replay(self, point: str) -> list[tuple[bytes, ...]]:
        self._runner.set_operating_point(point)
        found = []
        for batch in self._batches:
            answers = self._runner(batch)
            odd = ~np.isfinite(batch).reshape(len(batch), -1).all(1)
            assert np.isnan(answers.confidence[odd]).all(), "an input that is not finite got a confidence"
            assert (answers.exit_index[odd] == len(self._runner.stages)).all(), "and left before the last stage"
            assert np.isfinite(answers.confidence[~odd]).all()
            found.append(as_bytes(answers))
        return found

    def run(self) -> bool:
        """Return whether all was well."""
        self._runner.set_operating_point(self._points[0])
        aside = [threading.Thread(target=work) for work in (self._switch, self._give_up)]
        for thread in aside:
            thread.start()
        began = time.perf_counter()
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda _: self._ask(), range(THREADS)))
        seconds = time.perf_counter() - began
        self._megabytes.append(resident())
        self._over.set()
        for thread in aside:
            thread.join()
        early, late = self._megabytes
        growth = late / early - 1
        print(
            f"{self._requests:,} requests by {THREADS} threads in {seconds:.0f} s, {len(self._history) - 2:,} switches "
            f"between {len(self._points)} points: {len(self._faults)} errors and wrong answers"
        )
        print(f"given up: {self._given_up:,} of {self._queued:,} that went through the queue")
        print(f"memory: {early:.1f} MB after a tenth, {late:.1f} MB at the end, {growth:+.2%}")
        shown = np.percentile(self._seconds, [50, 95, 99]) * 1000
        print("p50 {:.2f} ms, p95 {:.2f} ms, p99 {:.2f} ms".format(*shown))
        for each in self._faults[:5]:
            print(each)
        return not self._faults and growth < GROWTH

    def _ask(self) -> None:
        """Ask until all requests are answered."""
        while (number := next(self._numbers)) < self._requests:
            place, before = number % len(self._batches), len(self._history)
            began = time.perf_counter()
            try:
                answers = self._runner(self._batches[place])
            except Exception as error:
                self._faults.append(f"request {number}: {error!r}")
                continue
            self._seconds[number] = time.perf_counter() - began
            # a switch is written down before it is made, so that the point before the last one may still be in force
            in_force = {*self._history[before - 2 : len(self._history)]}
            if as_bytes(answers) not in [self._expected[point][place] for point in in_force]:
                self._faults.append(f"request {number}: a wrong answer")
            if number == self._requests // 10:
                self._megabytes.insert(0, resident())

    def _switch(self) -> None:
        turn = 0
        while not self._over.wait(0.002):
            turn = (turn + 1) % len(self._points)
            self._history.append(turn)
            self._runner.set_operating_point(self._points[turn])

    def _give_up(self) -> None:
        """Ask through the server's queue, and wait for every second answer alone."""
        self._queued = self._given_up = 0
        (name,) = self._runner.input_names
        queue = BatchQueue(lambda feeds: Answered(*self._runner(**feeds), ""))
        batch = self._batches[1]
        while not self._over.wait(0.01):
            wanted, unwanted = (queue.submit({name: batch}) for _ in range(2))
            self._given_up += unwanted.cancel()
            try:
                if wanted.result(60).logits.shape != (len(batch), len(self._runner.labels)):
                    self._faults.append("the queue gave an answer of another shape")
            except (Exception, CancelledError) as error:
                self._faults.append(f"the queue: {error!r}")
            self._queued += 2
        queue.close()


def as_bytes(answers: Answers) -> tuple[bytes, ...]:
    """Return answers so that NaN equals NaN."""
    return tuple(each.tobytes() for each in answers)


def resident() -> float:
    """Return the resident memory of this process, in megabytes."""
    line = next(each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("VmRSS"))
    return int(line.split()[1]) / 1000


if __name__ == "__main__":
    main()
