"""Whether the speed-ups that a run prints are those of a quiet machine while others keep all of its cores busy.

    python integration_tests/benchmarks/timing_disturbed.py [--recipe recipes/quickstart.yaml] [--folder DIR]
        [--batch-size 64] [--runs 5]

Runs the recipe, or takes a folder that a run of it wrote, and times backbone and operating points as `dynamic-exit run`
does: first on the machine as it is, then as often as `--runs` says beside one endless loop for each core, which end
with it. Bar: every speed-up over the backbone in float within 25 % of the quiet one, in every run; ends with 1 where
that is missed. The machine should have nothing else to do.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx

from dynamic_exit.artifact.folder import MODEL_FILE, POINTS_FILE
from dynamic_exit.onnx.session import open_session
from dynamic_exit.onnx.unstitch import unstitch
from dynamic_exit.pipeline.inputs import load_run_inputs
from dynamic_exit.pipeline.run import run
from dynamic_exit.points.operating_point import OperatingPoints, point_thresholds
from dynamic_exit.recipe import read_recipe
from dynamic_exit.targets.measure import Variant, time_variants
from dynamic_exit.targets.onnxruntime import export_whole

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "quickstart.yaml"
BACKBONE, BAR = "backbone, float", 0.25


def variants(recipe: Path, folder: Path | None) -> tuple[dict[str, Variant], dict]:
    """What a run times, and the test samples by input."""
    with tempfile.TemporaryDirectory() as place:
        read = read_recipe(recipe, {"export.directory": str(Path(place, "out"))})
        folder, run_inputs = folder or run(read).folder, load_run_inputs(read)
        model, points = onnx.load(folder / MODEL_FILE), OperatingPoints.read(folder / POINTS_FILE)
    static = export_whole(run_inputs.backbone, run_inputs.example, {}).proto
    threads = read.dynamic_exit.tuning.threads
    found = {BACKBONE: Variant(open_session(static, threads))}
    session, stages = open_session(model, threads), unstitch(model).stages
    for point in points.points:
        found[point.name] = Variant(session, point_thresholds(point, stages))
    return found, run_inputs.splits["test"].feeds([value.name for value in static.graph.input])


def speed_ups(found: dict[str, Variant], feeds: dict, size: int) -> dict[str, float]:
    """Of every operating point over the backbone in float."""
    seconds = {name: each[size].median for name, each in time_variants(found, feeds, [size], threads=1).items()}
    return {name: seconds[BACKBONE] / each for name, each in seconds.items() if name != BACKBONE}


@contextmanager
def busy(cores: int) -> Iterator[None]:
    """Keep so many cores busy for a while."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
    try:
        yield
    finally:
        for each in loops:
            each.kill()
            each.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--folder", type=Path, help="that a run of the recipe wrote; default: it is run")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    found, feeds = variants(arguments.recipe, arguments.folder)
    quiet = speed_ups(found, feeds, arguments.batch_size)
    print(f"{'quiet':10}" + "".join(f"  {name} {value:.1f}x" for name, value in quiet.items()), flush=True)
    missed = 0
    for number in range(arguments.runs):
        with busy(os.cpu_count() or 1):
            disturbed = speed_ups(found, feeds, arguments.batch_size)
        ratios = {name: value / quiet[name] for name, value in disturbed.items()}
        missed += any(abs(ratio - 1) > BAR for ratio in ratios.values())
        said = (f"  {name} {disturbed[name]:.1f}x ({ratio:.2f})" for name, ratio in ratios.items())
        print(f"{f'busy, {number + 1}':10}" + "".join(said), flush=True)
    print(f"{arguments.runs - missed} of {arguments.runs} runs within {BAR:.0%} of the quiet speed-ups")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
