"""Does a monitor notice what it should: `python monitor.py false|power|cost [--streams N] [--work DIR] [--seed S]`.

CIFAR-10's `dev` images, the resnet56 behind resnet8 and resnet20 of recipes/cifar10_resnet56.yaml, at half a point.
false: streams of 100,000 answers that are drawn from the same samples as their reference of 2,500; how many raise an
alarm at level 0.01. power: streams that begin with 5,000 such answers and go on with images that are noisy, blurred,
faded, compressed or of another mix of classes, each as strong as costs about two points; how many are noticed within
2,000 answers, by what, and after how many; labels known for a tenth. cost: microseconds an answer by batch size.
Answers of the models are kept in DIR. $DYNAMIC_EXIT_DATA names the folder that holds cifar10/.
"""

import argparse
import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter

from dynamic_exit.chain.evaluation import Evaluation, evaluate
from dynamic_exit.chain.thresholds import Configuration
from dynamic_exit.monitoring import Monitor, PointReference, Reference
from dynamic_exit.points.goal import Goal
from dynamic_exit.recipe import read_recipe
from dynamic_exit.records import Records, StageTable
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.sources.models.loading import load_model
from dynamic_exit.tuning.optimizer import optimize

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("resnet8", "resnet20", "final")
CLASSES, REFERENCE, QUIET, WITHIN, STEP = 10, 2_500, 5_000, 2_000, 50


def edited(edit: Callable[[Image.Image], Image.Image]) -> Callable[[np.ndarray], np.ndarray]:
    """Return what edits images uint8 (N, H, W, 3) one by one."""
    return lambda images: np.stack([np.asarray(edit(Image.fromarray(image))) for image in images])


def noisy(strength: float) -> Callable[[np.ndarray], np.ndarray]:
    """Add normal noise of so many steps of 255."""

    def add(images: np.ndarray) -> np.ndarray:
        noise = np.random.default_rng(0).normal(scale=strength, size=images.shape)
        return np.clip(images + noise, 0, 255).round().astype(np.uint8)

    return add


def compressed(quality: int) -> Callable[[Image.Image], Image.Image]:
    """Write and read as JPEG."""

    def edit(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file).convert("RGB")

    return edit


SHIFTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as before": lambda images: images,
    "noise of 2.75 steps": noisy(2.75),
    "blur of 0.68 pixels": edited(lambda image: image.filter(ImageFilter.GaussianBlur(0.68))),
    "contrast of 53 %": edited(lambda image: ImageEnhance.Contrast(image).enhance(0.53)),
    "JPEG of quality 97": edited(compressed(97)),
}
#: How much more often each class comes: cats and dogs, which are mistaken for each other.
MIX = np.array([1, 1, 1, 1.8, 1, 1.8, 1, 1, 1, 1])


def answers(work: Path) -> dict[str, Records]:
    """Return records of `dev` for every shift, made once."""
    data = np.load(Path(os.environ["DYNAMIC_EXIT_DATA"]) / "cifar10" / "dev.npz")
    recipe = read_recipe(ROOT / "recipes" / "cifar10_resnet56.yaml")
    savers = {each.stage: each for each in recipe.dynamic_exit.tiny_saver.candidates}
    sources = {**{name: savers[name] for name in STAGES[:-1]}, "final": recipe.model}
    table = StageTable.of(STAGES, ("saver", "saver", "final"), (-1, -1, 0), (12.5, 40.6, 0), (0, 0, 125.5))
    found, models = {}, {}
    for name, shift in SHIFTS.items():
        path = work / f"{name.replace(' ', '_')}.npz"
        if not path.exists():
            models = models or {stage: load_model(source) for stage, source in sources.items()}
            images = torch.from_numpy(shift(data["images"]).transpose(0, 3, 1, 2).copy()).float()
            made = []
            for stage, model in models.items():
                steps = sources[stage].preprocessing
                mean, deviation = (
                    torch.tensor(each or 0.0).view(1, -1, 1, 1) for each in (steps.mean, steps.std or 1.0)
                )
                ready = (images * (steps.scale or 1.0) - mean) / deviation
                with torch.no_grad():
                    made.append(torch.cat([model(batch) for batch in ready.split(256)]).softmax(1).numpy())
            work.mkdir(parents=True, exist_ok=True)
            Records.from_probabilities(data["labels"], table, made).write(path)
        found[name] = Records.read(path)
    return found


class Streams:
    """Draws streams of answers, with their labels."""

    def __init__(self, work: Path):
        records = answers(work)
        self.clean = records["as before"]
        (self.configuration,) = optimize(self.clean, [Goal(max_accuracy_drop=0.005)], SearchOptions("mean"))
        self.evaluations = {name: evaluate(each, self.configuration) for name, each in records.items()}
        self.labels = np.asarray(self.clean.labels)
        mix = MIX[self.labels] / MIX[self.labels].sum()
        even = np.full(len(mix), 1 / len(mix))
        self.kinds = {name: (each, even) for name, each in self.evaluations.items()}
        self.kinds["cats and dogs x 1.8"] = (self.evaluations["as before"], mix)

    def monitor(self, random: np.random.Generator, configuration: Configuration) -> Monitor:
        """Return a monitor whose reference was drawn from the clean samples."""
        drawn = self.clean.take(random.integers(len(self.clean), size=REFERENCE))
        point = PointReference.of("point", drawn, configuration, CLASSES)
        return Monitor(Reference(stages=STAGES, points=(point,)), seed=int(random.integers(1 << 30)))

    def observe(self, monitor: Monitor, kind: str, count: int, random: np.random.Generator, labelled: float) -> None:
        """Show a monitor so many answers of a kind, a share of them with labels."""
        found, shares = self.kinds[kind]
        rows = random.choice(len(shares), size=count, p=shares)
        monitor.observe("point", found.exit_index[rows], found.confidence[rows], found.prediction[rows])
        known = rows[random.random(count) < labelled]
        monitor.observe_labels("point", found.prediction[known], self.labels[known])

    def drop(self, kind: str) -> float:
        """Return by how much the accuracy of a kind lies below that of clean samples."""

        def accuracy(found: Evaluation, shares: np.ndarray) -> float:
            return float(shares @ (found.prediction == self.labels))

        return accuracy(*self.kinds["as before"]) - accuracy(*self.kinds[kind])


def false_alarms(streams: Streams, count: int, seed: int) -> None:
    """Print how many streams without a change raise an alarm."""
    random, fired = np.random.default_rng(seed), 0
    for number in range(count):
        monitor = streams.monitor(random, streams.configuration)
        for _ in range(20):
            streams.observe(monitor, "as before", 5_000, random, labelled=0.1)
        fired += bool(monitor.status().alarms)
        if (number + 1) % 100 == 0:
            print(f"{fired} of {number + 1} streams of 100,000 answers raised an alarm", flush=True)
    print(f"false alarms: {fired} of {count} streams of 100,000 answers at level 0.01: {fired / count:.2%}")


def power(streams: Streams, count: int, seed: int) -> None:
    """Print how soon each shift is noticed."""
    for kind in streams.kinds:
        random, delays, causes = np.random.default_rng(seed), [], dict[str, int]()
        for _ in range(count):
            monitor = streams.monitor(random, streams.configuration)
            streams.observe(monitor, "as before", QUIET, random, labelled=0.1)
            for step in range(WITHIN // STEP):
                streams.observe(monitor, kind, STEP, random, labelled=0.1)
                if alarms := monitor.status().alarms:
                    delays.append((step + 1) * STEP)
                    causes[alarms[0].kind] = causes.get(alarms[0].kind, 0) + 1
                    break
        middle = f"{np.median(delays):.0f} answers" if delays else "-"
        print(
            f"{kind:20} {streams.drop(kind):6.2%} less accurate: noticed in {len(delays) / count:4.0%} of {count} "
            f"streams within {WITHIN}, median {middle}; by {causes or '-'}",
            flush=True,
        )


def cost(streams: Streams, seed: int) -> None:
    """Print what observing costs."""
    random = np.random.default_rng(seed)
    for size in (1, 8, 64):
        monitor, found = streams.monitor(random, streams.configuration), streams.evaluations["as before"]
        rows = [random.integers(len(found.exit_index), size=size) for _ in range(20_000 // size)]
        started = time.process_time()
        for each in rows:
            monitor.observe("point", found.exit_index[each], found.confidence[each], found.prediction[each])
        spent = (time.process_time() - started) / (len(rows) * size)
        print(f"batches of {size}: {spent * 1e6:.1f} us of processor time an answer")


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("false", "power", "cost"))
    parser.add_argument("--streams", type=int)
    parser.add_argument("--work", type=Path, default=Path("build/monitor"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    streams = Streams(options.work)
    if options.what == "false":
        false_alarms(streams, options.streams or 1_000, options.seed)
    elif options.what == "power":
        power(streams, options.streams or 100, options.seed)
    else:
        cost(streams, options.seed)


if __name__ == "__main__":
    main()
