"""Starts two runs into one output, the second at a random moment of the first, and looks at what comes of it.

Each time one run must write a whole folder that is its own, and the other be refused by name of the first (or because
the folder is written by then), with nothing else left beside it.
"""

import argparse
import json
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "helpers"))
import commands  # noqa: E402  (these two lie beside the tests)
import tiny  # noqa: E402

from dynamic_exit.pipeline.run import run  # noqa: E402
from dynamic_exit.recipe import read_recipe  # noqa: E402
from dynamic_exit.targets import stage_costs  # noqa: E402

# as little work as a run can have
WORLD = {
    "quantization": None,
    "dynamic_exit__early_exit": None,
    "dynamic_exit__tiny_saver__candidates": tiny.recipe()["dynamic_exit"]["tiny_saver"]["candidates"][:1],
    "dynamic_exit__cache": {"enabled": False},
}
FILES = {
    "README.md", "config.json", "metrics.json", "model.onnx", "operating_points.json", "recipe.yaml", "records.npz",
    "examples.json", "report.html", "run.log",
}  # fmt: skip


def problem(recipe: Path, folder: Path, offset: float) -> str:
    """Let two runs, of seeds 0 and 1, write to one output; return what is wrong with the outcome, if anything."""
    output = folder / "out"
    runs = []
    for seed in (0, 1):
        log = folder / f"log{seed}"
        runs.append(commands.forked(log, "run", recipe, "--output", output, "--set", f"seed={seed}"))
        time.sleep(offset if seed == 0 else 0)
    codes = [each.ended() for each in runs]
    if sorted(codes) != [0, 2]:
        return f"exit codes {codes}: {[each.said[-300:] for each in runs]}"
    winner = codes.index(0)
    other = runs[1 - winner].said
    named = f"'{output}' is being written by process {runs[winner].pid} on {socket.gethostname()} since "
    if len(other.splitlines()) != 1 or not (named in other or f"'{output}' is not empty" in other):
        return f"refused by saying: {other}"
    if {path.name for path in folder.iterdir()} != {"out", "log0", "log1"}:
        return f"left behind: {sorted(path.name for path in folder.iterdir())}"
    if {path.name for path in output.iterdir()} != FILES:
        return f"the folder holds {sorted(path.name for path in output.iterdir())}"
    seeds = {json.loads((output / "metrics.json").read_text())["seed"]}
    seeds |= {int(line[6:]) for line in (output / "recipe.yaml").read_text().splitlines() if line.startswith("seed: ")}
    if seeds != {winner}:
        return f"the folder is of the seeds {seeds}, the run that wrote it of {winner}"
    # it checks the sums of all files, and that their answers are those which were written
    check = commands.forked(folder / "check", "evaluate", output, "--data", recipe, "--json")
    if check.ended() != 0:
        return f"the folder cannot be used: {check.said}"
    found = {row["name"]: row["accuracy"] for row in json.loads(check.said)}
    points = json.loads((output / "operating_points.json").read_text())["points"]
    if any(found[point["name"]] != point["accuracy"] for point in points):
        return "the folder answers otherwise than it says"
    return ""


def main() -> None:
    """Try it at random offsets within one run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    stage_costs.TIME_LIMIT, stage_costs.ROUNDS = 0.2, 1  # times say nothing here
    signal.signal(signal.SIGINT, signal.default_int_handler)
    offsets = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as made:
        recipe = tiny.build(Path(made) / "world", **WORLD)
        # once in this process, so that those forked from it have all imports behind them
        run(read_recipe(recipe))
        began = time.perf_counter()
        alone = commands.forked(Path(made) / "log", "run", recipe, "--output", Path(made) / "alone")
        if alone.ended() != 0:
            raise SystemExit(alone.said)
        lasts = time.perf_counter() - began
        print(f"one run alone takes {lasts:.1f} s", flush=True)
        well = 0
        for number in range(1, arguments.tries + 1):
            folder, offset = Path(made) / "try", offsets.uniform(0, lasts)
            folder.mkdir()
            wrong = problem(recipe, folder, offset)
            well += not wrong
            print(f"try {number}, second after {offset:.2f} s: {wrong or 'one whole folder, one refused'}", flush=True)
            shutil.rmtree(folder)
    print(f"{well} of {arguments.tries}")
    sys.exit(well < arguments.tries)


if __name__ == "__main__":
    main()
