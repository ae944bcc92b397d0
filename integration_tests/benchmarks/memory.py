"""Peak memory of `validate`, of reading and recording, and of `run` on pictures that do not fit into it.

    python integration_tests/benchmarks/memory.py [--samples 20000] [--folder DIR] [--only data validate run]

Writes pictures of 224 px (JPEG, noise with a bar, ten classes) and trains two small networks on some of them, once.
Each line is then a process of its own and its peak of resident memory, as `wait4` tells the parent:

- `validate` and `run` of a recipe with two exits and a saver, each from an empty cache;
- `plain loop`: what one batch pipeline needs. It exports the backbone as `run` does, then opens the pictures in batches
  of 64, runs the exported backbone on them and keeps the most probable classes, in as many threads as `run` uses;
- `data path`: what `run` does with the data, from the recipe to records: it exports the backbone alike, then lists,
  decodes and checks the pictures of all splits, tries the backbone on them, and records two splits.

The ratio is data path over plain loop: of whole processes, and of what each needs beyond what it held before it opened
the first picture.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SIDE, CLASSES, SEED = 224, 10, 0
BEYOND = "MB beyond: "
SHARES = {"train": 0.4, "calibration": 0.3, "test": 0.3}
NETWORK = """
from torch import nn


def block(before, after, stride):
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())


def large():
    stem = [block(3, 8, 2), block(8, 16, 2), block(16, 32, 2), block(32, 64, 2), block(64, 64, 1)]
    return nn.Sequential(*stem, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, 10))


def small():
    return nn.Sequential(nn.AvgPool2d(8), block(3, 16, 2), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(256, 10))
"""
RECIPE = """
model: {source: python, name: "net.py:large", weights: large.safetensors, preprocessing: {scale: 0.00392156862745098}}
data: {source: imagefolder, path: pictures, splits: {train: train, calibration: calibration, test: test}}
dynamic_exit:
  cache: {directory: cache}
  tiny_saver:
    candidates:
      - source: python
        name: "net.py:small"
        weights: small.safetensors
        preprocessing: {scale: 0.00392156862745098}
  early_exit: {count: 2, training: {epochs: 2}}
  tuning: {max_accuracy_drop: 0.01}
export: {directory: out}
"""


def main() -> None:
    """Prepare the folder and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, help="keeps pictures and weights; default: one that is removed")
    parser.add_argument("--only", nargs="+", choices=("data", "validate", "run"), default=("data", "validate", "run"))
    parser.add_argument("--step", choices=[*STEPS], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        STEPS[options.step](options.samples)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "recipe.yaml").exists():
            measure("prepared", folder, own_step("prepare", options.samples))
        peaks = {}
        if "data" in options.only:
            for step in ("plain loop", "data path"):
                peaks[step] = measure(step, folder, own_step(step, options.samples))
            whole, beyond = (peaks["data path"][i] / peaks["plain loop"][i] for i in range(2))
            print(
                f"data path over plain loop: {whole:.2f} of whole processes, {beyond:.2f} beyond what was held before"
            )
        for name in [each for each in ("validate", "run") if each in options.only]:
            measure(name, folder, [sys.executable, "-m", "dynamic_exit", name, "recipe.yaml"])


def own_step(name: str, samples: int) -> list[str]:
    """Return the command that runs a step of this file."""
    return [sys.executable, str(Path(__file__).resolve()), "--step", name, "--samples", str(samples)]


def measure(name: str, folder: Path, command: list[str]) -> tuple[float, float]:
    """Run a command from an empty cache, print and return its peak memory in MB, and what its last line adds to it.

    Here nothing large is imported: a child begins with the peak of its parent.
    """
    for made in ("cache", "out"):
        subprocess.run(["rm", "-rf", str(folder / made)], check=True)
    started = time.perf_counter()
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    lines = (folder / "output.txt").read_text().splitlines()
    if process.returncode:
        sys.exit("\n".join(lines))
    peak, beyond = usage.ru_maxrss * 1024 / 1e6, [line for line in lines if line.startswith(BEYOND)]
    added = float(beyond[0].partition(": ")[2]) if beyond else 0.0
    shown = f", {added:.0f} MB beyond what was held before" if beyond else ""
    print(f"{name:12} {peak:6.0f} MB{shown}, {time.perf_counter() - started:.0f} s", flush=True)
    return peak, added


def prepare(samples: int) -> None:
    """Write pictures, networks with weights, and the recipe, into the working directory."""
    import numpy as np
    import torch
    from PIL import Image
    from safetensors.torch import save_file

    drawn = _draw(CLASSES)
    for split, share in SHARES.items():
        for number in range(int(samples * share) // CLASSES * CLASSES):
            path = Path("pictures", split, f"class{number % CLASSES}", f"{number:05}.jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(next(drawn)).save(path, quality=85)
    Path("net.py").write_text(NETWORK)
    sys.path.insert(0, "")
    import net

    torch.manual_seed(SEED)
    labels = torch.arange(400) % CLASSES
    inputs = torch.from_numpy(np.stack(list(itertools.islice(drawn, len(labels))))).permute(0, 3, 1, 2)
    for name in ("large", "small"):
        model = getattr(net, name)()
        optimizer = torch.optim.AdamW(model.parameters(), 0.003)
        for _ in range(3):
            for rows in torch.randperm(len(inputs)).split(32):
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(model(inputs[rows] / 255), labels[rows])
                loss.backward()
                optimizer.step()
        save_file(model.state_dict(), f"{name}.safetensors")
    Path("recipe.yaml").write_text(RECIPE)


def _draw(classes: int) -> Iterator[Any]:
    """Draw pictures uint8 (224, 224, 3) of class 0, 1, ... in turn: noise, with a bar whose color tells the class."""
    import numpy as np

    rng = np.random.default_rng(SEED)
    noise = rng.integers(60, 200, (64, SIDE, SIDE, 3), np.uint8)
    for number in itertools.count():
        pixels = np.roll(noise[rng.integers(len(noise))], tuple(rng.integers(0, SIDE, 2)), (0, 1))
        top, left = rng.integers(0, SIDE // 2, 2)
        label = number % classes
        color = [255 * (label & 1), 127 * (label >> 1 & 1), 25 * label] + rng.integers(0, 60, 3)
        pixels[top : top + 90, left : left + 40] = color.clip(0, 255)
        yield pixels


def plain_loop(_samples: int) -> None:
    """Open pictures in batches and run the exported backbone on them, as simply as it can be written."""
    import numpy as np
    import torch
    from PIL import Image

    from dynamic_exit.core import distributed
    from dynamic_exit.core.batching import DEFAULT_BATCH_SIZE, map_in_threads

    _, build = _set_up()
    session = build.stages.model("session")
    held = _restart_peak()
    files = sorted(Path("pictures").rglob("*.jpg"))

    @torch.no_grad()
    def answer(start: int) -> Any:
        images = []
        for path in files[start : start + DEFAULT_BATCH_SIZE]:
            with Image.open(path) as image:
                images.append(np.asarray(image.convert("RGB")).transpose(2, 0, 1))
        logits = session.all_stage_logits(torch.from_numpy(np.stack(images)))
        return torch.softmax(logits["final"], 1).topk(CLASSES)

    kept = list(map_in_threads(answer, range(0, len(files), DEFAULT_BATCH_SIZE), distributed.workers()))
    assert sum(len(each.values) for each in kept) == len(files)
    print(f"{BEYOND}{(_peak() - held) / 1e6}")


def data_path(samples: int) -> None:
    """Read and check all splits, and record two of them, as a run does."""
    from dataclasses import replace

    from dynamic_exit.pipeline.inputs import load_run_inputs
    from dynamic_exit.pipeline.stages import record_split

    recipe, build = _set_up()
    held = _restart_peak()
    build = replace(build, run_inputs=load_run_inputs(recipe))
    records = [record_split(build, split) for split in ("calibration", "test")]
    assert sum(map(len, records)) == 2 * (int(samples * 0.3) // CLASSES * CLASSES)
    print(f"{BEYOND}{(_peak() - held) / 1e6}")


def _set_up() -> tuple[Any, Any]:
    """Load the backbone and export it in one piece, as a run does, with pictures of its own."""
    import numpy as np

    from dynamic_exit.data.split import UNNAMED, Split
    from dynamic_exit.pipeline.inputs import load_run_inputs
    from dynamic_exit.pipeline.stages import export_backbone
    from dynamic_exit.recipe import read_recipe

    recipe = read_recipe("recipe.yaml", {"dynamic_exit.early_exit": None})
    labels = np.arange(4)
    pictures = np.stack(list(itertools.islice(_draw(CLASSES), len(labels)))).transpose(0, 3, 1, 2)
    splits = {split: Split(split, {UNNAMED: pictures}, labels) for split in SHARES}
    return recipe, export_backbone(load_run_inputs(recipe, splits=splits))


def _restart_peak() -> int:
    """Count the peak of this process from here on, and return what it holds now, in bytes."""
    import gc

    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


STEPS = {"prepare": prepare, "plain loop": plain_loop, "data path": data_path}

if __name__ == "__main__":
    main()
