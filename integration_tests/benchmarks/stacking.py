"""Static compression and savers on CIFAR-10 resnet56, each alone and on top of each other.

    DYNAMIC_EXIT_DATA=... python integration_tests/benchmarks/stacking.py [--work DIR] [--rounds 15] [--draws 10]
        [--set key=value]

Four runs of the recipes without exits, at latency cost: in float, int8, pruned, and pruned and int8. Savers and
thresholds are tuned on one half of `dev`, each run against its own backbone; accuracy and times are those on the other
half, where all eight models take turns in one process. One half is one draw of luck, so each chain of stages that
ships is also searched again on one random half of all of `dev` and measured on the other, both ways round; means over
draws, costs in the seconds that the run measured. A folder given with --work is filled once and measured again the next
time.
Bars: dynamic on top of each static variant at least 2x at 0.5 points more at most; the best stack at least 6x faster
than static float at batch 64 at a total change no worse than -1.0 point.
"""

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from cifar10 import ours, repeat

from dynamic_exit.artifact.folder import MODEL_FILE, POINTS_FILE
from dynamic_exit.cost import Latency, measure_latency
from dynamic_exit.data.loading import load_splits
from dynamic_exit.onnx.session import open_session
from dynamic_exit.onnx.unstitch import static_model, unstitch
from dynamic_exit.pipeline.run import run
from dynamic_exit.points.goal import Goal
from dynamic_exit.points.operating_point import OperatingPoints, point_thresholds
from dynamic_exit.recipe import read_recipe
from dynamic_exit.records import Records, StageTable
from dynamic_exit.targets.measure import Variant, answer, make_call, timed_slices

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "cifar10_resnet56.yaml"
PRUNED = RECIPE.with_name("cifar10_resnet56_pruned.yaml")
ALWAYS = {"dynamic_exit.early_exit": None, "dynamic_exit.tuning.cost": "latency"}
VARIANTS: dict[str, tuple[Path, dict[str, Any]]] = {
    "float": (RECIPE, {"quantization": None}),
    "int8": (RECIPE, {}),
    "pruned": (PRUNED, {"quantization": None}),
    "pruned, int8": (PRUNED, {}),
}
BATCH_SIZES = (1, 64)


@dataclass(frozen=True)
class Row:
    """One line of the table: what answers, its mean multiply-adds for one sample, and its bytes."""

    name: str
    variant: Variant
    stages: tuple[str, ...]
    macs: Mapping[str, Mapping[str, float]]
    bytes: int

    def cost(self, exits: np.ndarray) -> float:
        """Multiply-adds of a sample on the mean, given where each left."""
        own, prefix, paid = self.macs["own"], self.macs["prefix"], []
        passed = 0.0
        for index, stage in enumerate((*self.stages, "final")):
            if index == len(self.stages) or np.isfinite(self._threshold(index)):
                passed += own[stage]
            paid.append(passed + prefix[stage])
        return float(np.asarray(paid)[exits].mean())

    def _threshold(self, index: int) -> float:
        return np.inf if self.variant.thresholds is None else float(self.variant.thresholds[index])


def folder_of(work: Path, name: str, overrides: Mapping[str, Any]) -> Path:
    """Where a variant's run wrote, run now if it has not been."""
    folder = work / name.replace(", ", "_")
    if not (folder / MODEL_FILE).is_file():
        file, static = VARIANTS[name]
        recipe = read_recipe(file, {**ALWAYS, **static, **overrides, "export.directory": str(folder)})
        print(f"  {name}:", flush=True)
        run(recipe)
    return folder


def rows_of(name: str, folder: Path) -> list[Row]:
    """A variant's backbone alone, and behind savers at the default operating point."""
    file = onnx.load(folder / MODEL_FILE)
    chain, metrics = unstitch(file), json.loads((folder / "metrics.json").read_text())
    inputs = [value for value in file.graph.input if value.name != "thresholds"]
    static = static_model(chain.segments, inputs)
    point = OperatingPoints.read(folder / POINTS_FILE).by_name("accuracy-drop-0.5%")
    dynamic = Variant(open_session(file, threads=1), point_thresholds(point, chain.stages))
    macs = metrics["multiply_adds"]
    return [
        Row(f"{name}, static", Variant(open_session(static, threads=1)), chain.stages, macs, static.ByteSize()),
        Row(f"{name}, dynamic", dynamic, chain.stages, macs, file.ByteSize()),
    ]


def times(rows: Sequence[Row], inputs: Mapping[str, np.ndarray], size: int, rounds: int) -> dict[str, Latency]:
    """Seconds per sample, all in turn within every round."""
    slices = timed_slices(inputs, size)
    calls = {row.name: make_call(row.variant, slices) for row in rows}
    return measure_latency(calls, batch=size * len(slices), rounds=rounds, warmup=1)


def table(rows: Sequence[Row], inputs: Mapping[str, np.ndarray], labels: np.ndarray, rounds: int) -> list[dict]:
    """Measure all rows and print them."""
    seconds = {size: times(rows, inputs, size, rounds) for size in BATCH_SIZES}
    found = []
    head = "".join(f"{f'us, batch {size}':>26}{'faster':>8}" for size in BATCH_SIZES)
    print(f"{'':22}{'accuracy':>9}{'change':>8}{'M macs':>8}{'MB':>7}{head}")
    for row in rows:
        logits, exits = answer(row.variant, inputs, len(row.stages))
        accuracy = float((logits.argmax(1) == labels).mean())
        base = found[0]["accuracy"] if found else accuracy
        faster = {size: seconds[size][rows[0].name].median / seconds[size][row.name].median for size in BATCH_SIZES}
        line = {"name": row.name, "accuracy": accuracy, "change": accuracy - base, "macs": row.cost(exits)}
        found.append({**line, "bytes": row.bytes, "faster": faster})
        spread = "".join(
            f"{f'{1e6 * s.median:.1f} ({1e6 * s.low:.1f}-{1e6 * s.high:.1f})':>26}{faster[size]:7.2f}x"
            for size, s in ((size, seconds[size][row.name]) for size in BATCH_SIZES)
        )
        print(
            f"{row.name:22}{accuracy:9.2%}{100 * (accuracy - base):+8.2f}{line['macs'] / 1e6:8.1f}"
            f"{row.bytes / 1e6:7.2f}{spread}"
        )
    return found


def all_records(folder: Path, inputs: Mapping[str, np.ndarray], labels: np.ndarray) -> Records:
    """What each stage that ships answers on all samples given, with the costs that its run measured."""
    file, told = onnx.load(folder / MODEL_FILE), Records.read(folder / "records.npz")
    chain = unstitch(file)
    static = static_model(chain.segments, [value for value in file.graph.input if value.name != "thresholds"])
    protos = {part.name: part.proto for part in chain.savers} | {"final": static}
    told = told.select([part.name for part in chain.savers])
    logits = [answer(Variant(open_session(protos[name], threads=1)), inputs, 0)[0] for name in told.stages]
    return Records.from_logits(
        labels, StageTable.of(told.stages, told.kinds, told.positions, told.own_cost, told.prefix_cost), logits, k=10
    )


def say_means(folders: Mapping[str, Path], inputs: Mapping[str, np.ndarray], labels: np.ndarray, draws: int) -> None:
    """Print what each stack gains and loses on the mean over random halves."""
    print(f"mean of {draws} random halves of {len(labels)} samples, both ways round, at half a point allowed")
    goal, base = Goal(max_accuracy_drop=0.005), None
    for name, folder in folders.items():
        records = all_records(folder, inputs, labels)
        found = [row[0] for row in repeat(records, {name: partial(ours, goals=[goal])}, draws)[name]]
        points = -100 * np.array([each.accuracy_drop for each in found])
        given = np.mean([each.baseline_accuracy for each in found])
        base = given if base is None else base
        total = 100 * (given - base) + points.mean()
        print(
            f"{name + ', dynamic':22} {1 / np.mean([each.cost_ratio for each in found]):.2f}x of its static, "
            f"{points.mean():+.2f} points (sd {points.std():.2f}), {total:+.2f} of static float",
            flush=True,
        )


def say_bars(found: Sequence[dict]) -> None:
    """Print what the bars speak of."""
    for static, dynamic in zip(found[::2], found[1::2], strict=True):
        gain = dynamic["faster"][64] / static["faster"][64]
        points = 100 * (dynamic["accuracy"] - static["accuracy"])
        print(f"{dynamic['name']}: {gain:.2f}x at batch 64 on top of static, {points:+.2f} points")
    fitting = [row for row in found if row["change"] >= -0.01]
    best = max(fitting, key=lambda row: row["faster"][64])
    said = f"{best['faster'][64]:.2f}x at batch 64, {100 * best['change']:+.2f} points"
    print(f"best within 1 point: {best['name']}, {said}")


def main() -> None:
    """Print the table."""
    logging.basicConfig(format="  %(message)s", stream=sys.stdout)
    logging.getLogger("dynamic_exit").setLevel(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder that keeps the runs")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--draws", type=int, default=10, help="random halves")
    parser.add_argument("--set", action="append", default=[], help="key=value of the recipe")
    arguments = parser.parse_args()
    overrides = {key: yaml.safe_load(value) for key, value in (pair.split("=", 1) for pair in arguments.set)}
    recipe = read_recipe(RECIPE, overrides)
    splits = load_splits(recipe.data, recipe.seed)
    calibration, test = splits["calibration"], splits["test"]
    with tempfile.TemporaryDirectory() as scratch:
        work = arguments.work or Path(scratch)
        folders = {name: folder_of(work, name, overrides) for name in VARIANTS}
        rows = [row for name, folder in folders.items() for row in rows_of(name, folder)]
        names = [value.name for value in rows[0].variant.session.get_inputs()]
        say_bars(table(rows, test.feeds(names), test.labels, arguments.rounds))
        both = {name: np.concatenate([calibration.feeds(names)[name], test.feeds(names)[name]]) for name in names}
        say_means(folders, both, np.concatenate([calibration.labels, test.labels]), arguments.draws)


if __name__ == "__main__":
    main()
