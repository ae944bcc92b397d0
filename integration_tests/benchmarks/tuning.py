"""Benchmarks of the configuration optimizer: `python tuning.py WHAT [--draws N] [--seed S]`; times are processor time.

speed: 50,000 samples x 31 stages against the one-pass search. scale: up to 1,280,000 samples. imagenet: the trade-offs
on real records. baselines: never worse than either. overfitting, guarantees: see tuning_statistics.py.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from tuning_baselines import OnePass, best_single_saver, one_threshold
from tuning_data import imagenet, synthetic
from tuning_statistics import guarantees, overfitting

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.chain.evidence import Evidence
from dynamic_exit.chain.thresholds import Configuration
from dynamic_exit.points.goal import Goal
from dynamic_exit.records import Records
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.tuning.optimizer import front, optimize, tune

# of this process, so that other work on the machine does not count
clock = time.process_time
TRADES = np.geomspace(0.5, 40, 12)
EVIDENCE = {"product": Evidence("product", "margin"), "learned": Evidence("product", "learned")}
CASES = [(1, "none"), (2, "none"), *((savers, fuse) for savers in (2, 3, 4) for fuse in ("mean", *EVIDENCE))]


def configuration(records: Records, chosen: list[tuple[int, float]], fuse: str = "none") -> Configuration:
    return Configuration(tuple((records.stages[stage], threshold) for stage, threshold in chosen), fuse)


def speed(draws: int, seed: int) -> None:
    """Seconds per configuration, and the trade-offs at equal accuracy and equal cost."""
    records = synthetic(50_000, seed=seed)
    systems = {system: OnePass(records, system=system) for system in ("plain", "counts")}
    ours, seconds = [], {system: [] for system in systems}
    # in turn, so that what else the machine does disturbs all alike
    for _ in range(draws):
        start = clock()
        points = len(front(records, 50, options=SearchOptions(fuse="none", seed=seed)))
        ours.append((clock() - start) / points)
        for system, one_pass in systems.items():
            start = clock()
            theirs = [one_pass.configuration(multiplier) for multiplier in TRADES]
            seconds[system].append((clock() - start) / len(TRADES))
    print(
        f"ours: a front of {points} points in {points * np.median(ours):.2f} s, {np.median(ours):.4f} s a configuration"
    )
    for system, times in seconds.items():
        faster = np.array(times) / ours
        print(
            f"one-pass ({system}): {np.median(times):.4f} s a configuration; ours {np.median(faster):.1f}x faster "
            f"(median of {draws} rounds, {faster.min():.1f} to {faster.max():.1f})",
            flush=True,
        )
    figures = [evaluate(records, configuration(records, chosen)) for chosen in theirs]
    goals = [Goal(max_accuracy_drop=e.accuracy_drop) for e in figures] + [Goal(budget=e.cost_ratio) for e in figures]
    start = clock()
    made = [
        evaluate(records, f) for f in optimize(records, goals, SearchOptions(fuse="none", seed=seed), crossfit=False)
    ]
    print(f"{'one-pass accuracy':>18} {'cost':>7} {'our cost there':>15} {'our accuracy at that cost':>26}")
    for e, cheaper, better in zip(figures, made, made[len(figures) :], strict=False):
        print(f"{e.accuracy:18.4f} {e.cost_ratio:7.4f} {cheaper.cost_ratio:15.4f} {better.accuracy:26.4f}")
    print(f"ours for these goals exactly, {len(goals)} searches: {clock() - start:.1f} s")


def _write(path: Path, samples: int, seed: int) -> None:
    synthetic(samples, seed=seed, kept=5).write(path)


def scale(draws: int, seed: int) -> None:
    """Seconds and memory of a front of 50 points, four sizes, from a mapped file."""
    with tempfile.TemporaryDirectory() as folder:
        for samples in (160_000, 320_000, 640_000, 1_280_000):
            path = Path(folder) / "records.npz"
            # in a process of its own, so that its memory does not count
            maker = multiprocessing.get_context("spawn").Process(target=_write, args=(path, samples, seed))
            maker.start()
            maker.join()
            start = clock()
            records = Records.read(path)
            read = clock() - start
            start = clock()
            points = front(records, 50, options=SearchOptions(fuse="none", seed=seed))
            seconds = clock() - start
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            print(
                f"{samples:9d} samples x {len(records.stages)} stages x top-{records.kept}: {len(points)} points in "
                f"{seconds:.1f} s (read and checked in {read:.1f} s), most memory so far {memory:.2f} GB",
                flush=True,
            )
            del records


def real(draws: int, seed: int, only: str | None = None) -> None:
    """Search on one random half, report on the other; mean over splits."""
    drops = (0.0, 0.005, 0.01)
    print(f"{'backbone':12} savers   backbone cost / mean cost, and accuracy change in points, at 0 / 0.5 / 1 allowed")
    for backbone in ("resnet152", "densenet161", "vgg19_bn"):
        records = imagenet(backbone)
        for savers, fuse in CASES:
            if only is not None and only not in f"{backbone}-{savers}-{fuse}":
                continue
            rows = []
            for draw in range(draws):
                order = np.random.default_rng([seed, draw]).permutation(len(records))
                half, rest = records.take(order[:25_000]), records.take(order[25_000:])
                goals = [Goal(max_accuracy_drop=drop) for drop in drops]
                options = SearchOptions(fuse=EVIDENCE.get(fuse, fuse), max_savers=savers, seed=draw)
                made = tune(half, rest, goals, options)
                rows.append([(p.cost_ratio, -100 * p.accuracy_drop) for p in made.points])
            mean, spread = np.mean(rows, axis=0), np.std(rows, axis=0)
            print(
                f"{backbone:12} {savers} {fuse:7}   "
                + "   ".join(f"{1 / c:6.2f}x {a:+.3f} (sd {s[1]:.2f})" for (c, a), s in zip(mean, spread, strict=True)),
                flush=True,
            )


def baselines(draws: int, seed: int) -> None:
    """Against every baseline's point: our cost at its accuracy, on the samples searched."""
    worse, compared, saved = 0, 0, []
    for draw in range(draws):
        random = np.random.default_rng([seed, draw])
        samples = int(10 ** random.uniform(1.3, 4.3))
        if draw % 4 == 3:
            # more samples than a front is begun with, and a choice of heads: as large as those of `speed`
            records = synthetic(int(10 ** random.uniform(3.3, 4.7)), 6, 5, seed=draw)
        elif draw % 2:
            records = synthetic(samples, int(random.integers(1, 7)), int(random.integers(1, 4)), seed=draw)
        else:
            rows = random.choice(50_000, samples, replace=False)
            records = imagenet("resnet152", rows)
            names = list(random.choice(records.stages[:-1], size=int(random.integers(1, 6)), replace=False))
            records = records.select(names)
        one_pass = OnePass(records)
        theirs = [one_pass.configuration(multiplier) for multiplier in TRADES]
        heads = [group[-1] for group in one_pass.groups.values()]
        theirs += one_threshold(records, heads, np.linspace(0.3, 0.99, 12))
        theirs += [best_single_saver(records, drop) for drop in (0.0, 0.005, 0.01)]
        figures = [evaluate(records, configuration(records, chosen)) for chosen in theirs]
        goals = [Goal(max_accuracy_drop=e.accuracy_drop) for e in figures]
        for e, found in zip(
            figures, optimize(records, goals, SearchOptions(fuse="none", seed=draw), crossfit=False), strict=True
        ):
            ours = evaluate(records, found)
            compared += 1
            saved.append(1 - ours.cost / e.cost)
            if ours.cost > e.cost * (1 + 1e-9) or ours.accuracy < e.accuracy - 1e-12:
                worse += 1
                print(
                    f"worse: draw {draw}, {len(records)} samples, {len(records.stages)} stages: "
                    f"{ours.cost / e.cost - 1:.2e}",
                    flush=True,
                )
    print(
        f"{compared} points of baselines on {draws} instances: ours worse at {worse}, mean saving {np.mean(saved):.3f}"
    )


def main() -> None:
    """Run one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    what = {
        "speed": (speed, 7),
        "scale": (scale, 1),
        "imagenet": (real, 10),
        "baselines": (baselines, 60),
        "overfitting": (overfitting, 50),
        "guarantees": (guarantees, 2000),
    }
    parser.add_argument("what", choices=what)
    parser.add_argument("--draws", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="overfitting, imagenet: cases whose name holds this")
    parser.add_argument("--risk", default="accuracy", help="guarantees: what is promised")
    arguments = parser.parse_args()
    run, draws = what[arguments.what]
    extra = {"only": arguments.only} if arguments.what in ("overfitting", "imagenet") else {}
    if arguments.what == "guarantees":
        extra["risk"] = arguments.risk
    run(arguments.draws or draws, arguments.seed, **extra)


if __name__ == "__main__":
    main()
