"""Bursty load: what a fixed operating point keeps of a latency goal, and what the controller of `serve --p99` keeps.

`python serving_load.py FOLDER [--p99 50] [--seconds 120] [--peak 0.9] [--burst 5] [--seeds 0] [--lowest-point NAME]`

FOLDER is one that `dynamic-exit run` wrote. Requests of one row arrive as a Poisson process of a base rate with bursts
of 5 times as many (2 to 6 seconds long, 2 to 10 seconds apart). Each is one of the folder's test samples, drawn with
the seed; `records.npz` says where it leaves at each point, and whether the answer is right. A clock that is simulated
runs one server: the controller and its batches are those of `serve`, and a batch takes what `metrics.json` measured,
times what its samples cost over the mean. Nothing is timed here, so the same seed prints the same table everywhere.
Printed for the fixed default point, the fixed fastest point and the controller: the share of one-second windows (by
arrival) whose 99th percentile is within the goal, and the mean accuracy over all answers. Bars: the controller keeps at
least 95 % of windows where the fixed default point keeps at most 60 %, at most half of the allowed drop below its
accuracy; and it is more accurate than the fixed fastest point at no more misses.

`python serving_load.py FOLDER --ray [--requests 200000] [--switches 1000] [--kills 20] [--replicas 2]`

Starts `dynamic-exit serve FOLDER --ray` instead (extra `ray`). Eight clients send so many requests of one row, each
again where no answer came, while the operating point is switched and replicas are killed by SIGKILL, evenly over all
requests. Every answer is compared with that of the file in this process at the point that the answer names, and that
point with those that were in force between request and answer. Printed: what was sent again, lost after two minutes,
wrong, or answered at a point that was not in force, and the memory of Ray's processes without the replicas. Bars: all
switches and kills took place; nothing was lost, wrong or mixed. Exits with 1 if a bar is missed.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.points.operating_point import OperatingPoints
from dynamic_exit.records import Records
from dynamic_exit.serving.controller import LoadController
from dynamic_exit.serving.gears import Gear, PointTimes, gear_table, planned_seconds, read_point_times

MAX_BATCH = 64


def make_trace(base: float, seconds: float, burst: float = 5.0, seed: int = 0) -> np.ndarray:
    """Return the times of requests, float64 (N,): a Poisson process of a base rate, with bursts.

    Args:
        base: Requests a second outside bursts.
        seconds: Length.
        burst: Rate in bursts over the base rate.
        seed: Of the process.
    """
    rng = np.random.default_rng(seed)
    times, now = [], 0.0
    while now < seconds:
        for rate, length in ((base, rng.uniform(2, 10)), (burst * base, rng.uniform(2, 6))):
            times.append(now + np.sort(rng.uniform(0, length, rng.poisson(rate * length))))
            now += length
    found = np.concatenate(times)
    return found[found < seconds]


@dataclass(frozen=True)
class Answers:
    """What an operating point answers to the samples: cost of each over their mean, and whether it is right."""

    cost: np.ndarray
    correct: np.ndarray


class Outcome(NamedTuple):
    """What requests met: seconds to the answer of each, the point that answered each, and whether it was right."""

    latencies: np.ndarray
    points: list[str]
    correct: np.ndarray

    def kept(self, arrivals: np.ndarray, goal: float) -> float:
        """Return the share of one-second windows whose 99th percentile of latency is within a goal."""
        windows = np.floor(arrivals).astype(int)
        return float(np.mean([np.quantile(self.latencies[windows == each], 0.99) <= goal for each in set(windows)]))


def simulate(
    arrivals: np.ndarray, samples: np.ndarray, answers: dict[str, Answers], choose: "Chooser", slowness: float = 1.0
) -> Outcome:
    """Let one server answer requests of one row in the order of arrival, on a clock of its own.

    Args:
        arrivals: Times of the requests, increasing.
        samples: What each asks.
        answers: By operating point.
        choose: What says before each batch at which point it runs.
        slowness: Seconds of batches over those that were measured.
    """
    latencies, points = np.empty(len(arrivals)), [""] * len(arrivals)
    correct, now, begin = np.empty(len(arrivals), bool), 0.0, 0
    while begin < len(arrivals):
        now = max(now, arrivals[begin])
        waiting = int(np.searchsorted(arrivals, now, side="right")) - begin
        gear = choose.batch(now, begin + waiting, waiting, now - arrivals[begin])
        rows = slice(begin, begin + min(waiting, gear.batch))
        found, count = answers[gear.point], rows.stop - begin
        seconds = slowness * gear.times.batch_seconds(count) * found.cost[samples[rows]].mean()
        now += seconds
        latencies[rows], correct[rows] = now - arrivals[rows], found.correct[samples[rows]]
        points[rows] = [gear.point] * count
        choose.done(now, count, seconds, latencies[rows])
        begin = rows.stop
    return Outcome(latencies, points, correct)


class Fixed:
    """Chooses one point always, with batches as `serve` makes them."""

    def __init__(self, times: PointTimes):
        self._gear = Gear(times, MAX_BATCH, 0.0)

    def batch(self, now: float, arrived: int, waiting: int, waited: float) -> Gear:
        return self._gear

    def done(self, now: float, rows: int, seconds: float, latencies: np.ndarray) -> None:
        pass


class Controlled:
    """Asks the controller, and tells it what a server tells it."""

    def __init__(self, controller: LoadController, arrivals: np.ndarray):
        self.controller, self._arrivals, self._told = controller, arrivals, 0

    def batch(self, now: float, arrived: int, waiting: int, waited: float) -> Gear:
        for time in self._arrivals[self._told : arrived].tolist():
            self.controller.arrived(time, 1)
        self._told = arrived
        return self.controller.choose(now, waiting, waited)

    def done(self, now: float, rows: int, seconds: float, latencies: np.ndarray) -> None:
        self.controller.finished(rows, seconds)
        for latency in latencies.tolist():
            self.controller.answered(now, latency)


Chooser: TypeAlias = Fixed | Controlled


def read_answers(folder: Path, points: OperatingPoints) -> dict[str, Answers]:
    """Return what each operating point answers to the folder's records."""
    records, found = Records.read(folder / "records.npz"), {}
    for point in points.available:
        figures = evaluate(records, point.configuration)
        used = [records.stages.index(each.stage) for each in point.stages]
        paid = records.stage_table.exit_cost(tuple(used))
        of_stage = dict(zip([*used, len(records.stages) - 1], paid.tolist(), strict=True))
        cost = np.array([of_stage[index] for index in figures.exit_index.tolist()])
        found[point.name] = Answers(cost / cost.mean(), figures.prediction == records.labelled_truth)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--p99", type=float, default=50.0, help="milliseconds")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--base", type=float, help="requests a second outside bursts; default: by --peak")
    parser.add_argument("--peak", type=float, default=0.9, help="rate in bursts over what the fastest point carries")
    parser.add_argument("--burst", type=float, default=5.0)
    parser.add_argument("--default-point", help="default: the most accurate gear")
    parser.add_argument("--lowest-point")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--slowness", type=float, default=1.0, help="seconds of batches over those of metrics.json")
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--switches", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--replicas", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.ray:
        from serving_killed import Counts, run  # which needs Ray

        counts = Counts(arguments.requests, arguments.switches, arguments.kills)
        sys.exit(not run(arguments.folder, counts, arguments.replicas, arguments.seeds[0]))
    goal, points = arguments.p99 / 1000, OperatingPoints.read(arguments.folder / "operating_points.json")
    times, answers = read_point_times(arguments.folder, points), read_answers(arguments.folder, points)
    gears = gear_table(times, goal, MAX_BATCH, lowest_point=arguments.lowest_point)
    planned = planned_seconds(goal)
    for gear in gears:
        print(f"'{gear.point}': up to {gear.rows_per_second:.0f} rows a second, in batches of {gear.batch}")
    base = arguments.base or arguments.peak * gears[-1].rows_per_second / arguments.burst / arguments.slowness
    default = next(each for each in times if each.point == (arguments.default_point or gears[0].point))
    for seed in arguments.seeds:
        arrivals = make_trace(base, arguments.seconds, arguments.burst, seed)
        samples = np.random.default_rng(seed).integers(0, len(answers[default.point].correct), len(arrivals))
        controller = LoadController(gears, goal, planned, MAX_BATCH)
        ways: dict[str, Chooser] = {
            f"fixed, {default.point}": Fixed(default),
            f"fixed, {gears[-1].point}": Fixed(gears[-1].times),
            "controller": Controlled(controller, arrivals),
        }
        print(f"\nseed {seed}: {len(arrivals)} requests, {base:.0f} a second, in bursts {arguments.burst * base:.0f}")
        for name, way in ways.items():
            found = simulate(arrivals, samples, answers, way, arguments.slowness)
            kept, p99 = found.kept(arrivals, goal), 1000 * np.quantile(found.latencies, 0.99)
            print(f"{name:30} {kept:6.1%} of windows kept, accuracy {found.correct.mean():.2%}, p99 {p99:.0f} ms")
        print({f"{point}, {reason}": count for (point, reason), count in sorted(controller.shifts.items())})


if __name__ == "__main__":
    main()
