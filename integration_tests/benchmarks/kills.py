"""Runs that are killed (SIGKILL) at random moments and resumed, until they end as one that nothing disturbed.

    python integration_tests/benchmarks/kills.py [KILLS] [SEED] [--recipe recipes/quickstart.yaml] [--set key=value ...]
        [--most 6]

The recipe is run once undisturbed. Then runs with empty caches are started, killed after a time drawn evenly from 0 to
half of what the undisturbed one took, started again with `--resume`, killed again, and so on until one gets through,
or has been killed MOST times and is left alone; then the next begins. So the moments spread over all steps as these
spread over time, resumed ones included.

Bars, checked after every kill and at each end: the output is absent or whole, and files have their names only once they
are complete; operating points, records, model and configuration of a resumed run are byte for byte those of the
undisturbed one; what is finished, such as a saver that is made, is not made again; nothing stays beside the output.

Prints one row a kill: its run, after how many seconds, in which step, and what was found. Exits with 1 if a bar is
missed.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SAME = ("operating_points.json", "records.npz", "model.onnx", "config.json")
# lines that tell of finished work, which a resumed run must find and not do again
FINISHED = re.compile(r"^(\S+: made|\S+: fine-tuned|pruned: .* made) in .*$", re.MULTILINE)


def main() -> None:
    """Run the campaign and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kills", type=int, nargs="?", default=60)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    parser.add_argument("--recipe", type=Path, default=ROOT / "recipes" / "quickstart.yaml")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--most", type=int, default=6)
    options = parser.parse_args()
    recipe = [str(options.recipe), *(part for change in options.changes for part in ("--set", change))]
    with tempfile.TemporaryDirectory() as folder:
        faults = Campaign(Path(folder), recipe, options.seed).run(options.kills, options.most)
    sys.exit(1 if faults else 0)


class Campaign:
    """Runs of one recipe in a folder.

    Args:
        folder: An empty folder.
        recipe: Arguments of the command after ``run``.
        seed: Decides the moments.
    """

    def __init__(self, folder: Path, recipe: list[str], seed: int):
        self.folder, self.recipe, self.random = folder, recipe, random.Random(seed)

    def run(self, kills: int, most: int) -> int:
        """Kill so often, one run as often as `most` says, print a row each, and return the number of faults."""
        seconds, code = self._attempt("undisturbed", None)
        if code:
            sys.exit((self.folder / "undisturbed.said").read_text())
        print(f"undisturbed: {seconds:.0f} s\n\n{'kill':>4}  run  {'after':>7}  {'step':24}  found", flush=True)
        done = number = faults = 0
        while done < kills:
            number += 1
            name, code, ends = f"run{number}", -signal.SIGKILL, min(kills, done + most)
            while code == -signal.SIGKILL:
                moment = None if done == ends else self.random.uniform(0, seconds / 2)
                taken, code = self._attempt(name, moment)
                if code == -signal.SIGKILL:
                    done += 1
                    found = self._check_unfinished(name)
                    faults += len(found)
                    row = f"{done:4}  {number:3}  {taken:5.1f} s  {self._step(name):24}"
                    print(f"{row}  {'; '.join(found) or 'whole or absent'}", flush=True)
            found = self._check_finished(name, code)
            faults += len(found)
            print(f"      {number:3}  {'ended':>7}  {'':24}  {'; '.join(found) or 'as undisturbed'}", flush=True)
        print(f"\n{done} kills, {number} runs, {faults} faults")
        return faults

    def _attempt(self, name: str, moment: float | None) -> tuple[float, int]:
        """Start a run, or go on with it, and kill it after some seconds unless it ends before."""
        variables = {"DYNAMIC_EXIT_CACHE": str(self.folder / f"{name}.cache"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "dynamic_exit", "run", *self.recipe, "--resume"]
        started = time.perf_counter()
        with (self.folder / f"{name}.said").open("ab") as said:
            process = subprocess.Popen(
                [*command, "--output", str(self.folder / name)],
                stdin=subprocess.DEVNULL, stdout=said, stderr=said, env={**os.environ, **variables},
            )  # fmt: skip
            try:
                process.wait(moment)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        return time.perf_counter() - started, process.returncode

    def _step(self, name: str) -> str:
        """Return the line that the run said last."""
        lines = (self.folder / f"{name}.said").read_text(errors="replace").splitlines()
        return re.split(r"[,:]? \d", lines[-1] if lines else "start")[0][:24]

    def _check_unfinished(self, name: str) -> list[str]:
        """Return what is wrong after a kill."""
        found = [f"'{path.name}' is cut short" for path in self._visible(name) if not _is_whole(path)]
        output = self.folder / name
        if output.exists() and any(output.iterdir()):
            lacking = {each.name for each in (self.folder / "undisturbed").iterdir()} - {*os.listdir(output)}
            found += [f"the output lacks {', '.join(sorted(lacking))}"] if lacking else []
        return found

    def _visible(self, name: str) -> list[Path]:
        """List the files of a run that have their names."""
        places = (self.folder / name, self.folder / f"{name}.partial", self.folder / f"{name}.cache")
        return [path for place in places for path in place.rglob("[!.]*") if path.is_file()]

    def _check_finished(self, name: str, code: int) -> list[str]:
        """Return what is wrong at the end of a run."""
        said = (self.folder / f"{name}.said").read_text(errors="replace")
        if code:
            return [f"exit code {code}: {said.splitlines()[-1] if said else ''}"]
        output, whole = self.folder / name, self.folder / "undisturbed"
        found = [f"other {each}" for each in SAME if (output / each).read_bytes() != (whole / each).read_bytes()]
        found += [f"not the same files: {odd}" for odd in [{*os.listdir(output)} ^ {*os.listdir(whole)}] if odd]
        again = Counter(each for each in FINISHED.findall(said))
        found += [f"{each} {count} times" for each, count in again.items() if count > 1]
        mine = {name, f"{name}.said", f"{name}.cache"}
        found += [f"left '{each}'" for each in os.listdir(self.folder) if name in each and each not in mine]
        return found


def _is_whole(path: Path) -> bool:
    """Whether a file of a known kind can be read to its end."""
    try:
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix in (".npz", ".zip"):
            with zipfile.ZipFile(path) as archive:
                return archive.testzip() is None
        elif path.suffix == ".onnx":
            import onnx

            onnx.checker.check_model(path)
    except Exception:
        return False
    return True


if __name__ == "__main__":
    main()
