"""Does a monitor notice what it should: `python monitor.py false|power|cost [--streams N] [--work DIR] [--others ...]`.

CIFAR-10's `dev` images, the resnet56 behind resnet8 and resnet20 of recipes/cifar10_resnet56.yaml, at half a point.
false: streams of 100,000 answers in calls of 1,000 that are drawn from the same samples as their reference of 2,500;
how many raise an alarm at level 0.01. power: streams that begin with about 5,000 such answers and go on with images
that are noisy, blurred, faded, compressed or of another mix of classes, each as strong as costs about two points; how
many are noticed within 2,000 answers, by what, and after how many; labels known for a tenth; what falling back to the
backbone then loses over 20,000 answers. --others sets detectors of other libraries beside it, on the same streams
(detectors.py). cost: microseconds an answer by batch size. --no-inputs leaves statistics of images out of what is
watched. Answers of the models are kept in DIR. $DYNAMIC_EXIT_DATA names the folder that holds cifar10/.
"""

import argparse
import io
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from detectors import OTHERS, Drift
from PIL import Image, ImageEnhance, ImageFilter

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.drift import InputReference, read_inputs
from dynamic_exit.monitoring import Monitor, PointReference, Reference
from dynamic_exit.monitoring.reference import scores
from dynamic_exit.points.goal import Goal
from dynamic_exit.recipe import read_recipe
from dynamic_exit.records import Records, StageTable
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.sources.models.loading import load_model
from dynamic_exit.tuning.optimizer import optimize

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("resnet8", "resnet20", "final")
CLASSES, REFERENCE, QUIET, WITHIN, STEP, LONG_STEP = 10, 2_500, 5_000, 2_000, 50, 1_000
IMAGES, ANSWERS, HORIZON = 5_000, 100_000, 20_000
#: Makes a detector of the scores of a reference and a seed.
Maker = Callable[[np.ndarray, int], Drift]


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
    "noise of 3.75 steps": noisy(3.75),
    "blur of 0.55 pixels": edited(lambda image: image.filter(ImageFilter.GaussianBlur(0.55))),
    "contrast of 64 %": edited(lambda image: ImageEnhance.Contrast(image).enhance(0.64)),
    "JPEG of quality 96": edited(compressed(96)),
}
#: How much more often each class comes: cats and dogs, which are mistaken for each other.
MIX = np.array([1, 1, 1, 2.75, 1, 2.75, 1, 1, 1, 1])


def shifted_images(count: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return so many images of `dev` for every shift, uint8 (N, 3, 32, 32), and their labels."""
    read = np.load(Path(os.environ["DYNAMIC_EXIT_DATA"]) / "cifar10" / "dev.npz")
    rows = np.random.default_rng(0).permutation(len(read["labels"]))[:count]
    images = read["images"][rows]
    found = {name: np.ascontiguousarray(shift(images).transpose(0, 3, 1, 2)) for name, shift in SHIFTS.items()}
    return found, read["labels"][rows]


def answers(work: Path, images: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, Records]:
    """Return records of images for every shift, made once."""
    recipe = read_recipe(ROOT / "recipes" / "cifar10_resnet56.yaml")
    savers = {each.stage: each for each in recipe.dynamic_exit.tiny_saver.candidates}
    sources = {**{name: savers[name] for name in STAGES[:-1]}, "final": recipe.model}
    table = StageTable.of(STAGES, ("saver", "saver", "final"), (-1, -1, 0), (12.5, 40.6, 0), (0, 0, 125.5))
    found, models = {}, {}
    for name, shifted in images.items():
        path = work / f"{name.replace(' ', '_')}_{len(labels)}.npz"
        if not path.exists():
            models = models or {stage: load_model(source) for stage, source in sources.items()}
            tensor = torch.from_numpy(shifted).float()
            made = []
            for model in models.values():  # each brings its preprocessing
                with torch.no_grad():
                    made.append(torch.cat([model(batch) for batch in tensor.split(256)]).softmax(1).numpy())
            work.mkdir(parents=True, exist_ok=True)
            Records.from_probabilities(labels, table, made).write(path)
        found[name] = Records.read(path)
    return found


class Streams:
    """Draws streams of answers, with their labels."""

    def __init__(self, work: Path, images: int = IMAGES, fuse: str = "mean", inputs: bool = True):
        self.images, labels = shifted_images(images)
        self.inputs, self.records = inputs, answers(work, self.images, labels)
        records = self.records
        self.clean = records["as before"]
        (self.configuration,) = optimize(self.clean, [Goal(max_accuracy_drop=0.005)], SearchOptions(fuse))
        self.evaluations = {name: evaluate(each, self.configuration) for name, each in records.items()}
        self.labels = np.asarray(self.clean.labels)
        mix = MIX[self.labels] / MIX[self.labels].sum()
        even = np.full(len(mix), 1 / len(mix))
        self.kinds = {name: (each, even) for name, each in self.evaluations.items()}
        self.kinds["cats and dogs x 2.75"] = (self.evaluations["as before"], mix)
        self._bounds = {name: np.cumsum(shares) / shares.sum() for name, (_, shares) in self.kinds.items()}

    def reference(self, random: np.random.Generator) -> np.ndarray:
        """Return rows of samples that are drawn from the clean ones."""
        return random.integers(len(self.clean), size=REFERENCE)

    def input_reference(self, drawn: np.ndarray) -> tuple[InputReference, ...]:
        """Return statistics of the images of rows; none where they are not watched."""
        images = {"images": self.images["as before"][drawn]}
        return read_inputs(images, images) if self.inputs else ()

    def inputs_of(self, kind: str, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return the images of rows of a kind, as a model takes them."""
        return {"images": self.images.get(kind, self.images["as before"])[rows]}

    def monitor(self, drawn: np.ndarray, seed: int) -> Monitor:
        """Return a monitor with the reference of some rows."""
        point = PointReference.of("point", self.clean.take(drawn), self.configuration, CLASSES)
        reference = Reference(stages=STAGES, points=(point,), inputs=self.input_reference(drawn))
        return Monitor(reference, seed=seed)

    def draw(self, kind: str, count: int, random: np.random.Generator) -> np.ndarray:
        """Return rows of so many samples of a kind."""
        return np.searchsorted(self._bounds[kind], random.random(count), side="right")

    def fires(
        self, phases: Sequence[tuple[str, int]], others: Mapping[str, Maker], seed: Sequence[int], step: int = STEP
    ) -> dict[str, tuple[int, str]]:
        """Return after how many answers of a stream the monitor and other detectors fire, those that do.

        Args:
            phases: Kinds of answers, and how many come of each; a tenth is labelled.
            others: What makes the other detectors.
            seed: Of the stream.
            step: Answers of a call, after each of which it is asked.
        """
        random, fired, seen = np.random.default_rng(seed), dict[str, tuple[int, str]](), 0
        drawn = self.reference(random)
        monitor = self.monitor(drawn, int(random.integers(1 << 30)))
        found = evaluate(self.clean.take(drawn), self.configuration)
        ranks = scores(found.exit_index, found.confidence)
        looking = {name: make(ranks, int(seed[-1])) for name, make in others.items()}
        for kind, count in phases:
            found, _ = self.kinds[kind]
            for _ in range(count // step):
                seen += step
                rows = self.draw(kind, step, random)
                known = rows[random.random(step) < 0.1]
                if "monitor" not in fired:
                    answered = found.exit_index[rows], found.confidence[rows], found.prediction[rows]
                    monitor.observe("point", *answered, self.inputs_of(kind, rows))
                    monitor.observe_labels("point", found.prediction[known], self.labels[known])
                    if alarms := monitor.status().alarms:
                        fired["monitor"] = seen, alarms[0].kind
                ranks = scores(found.exit_index[rows], found.confidence[rows])
                wrong = (found.prediction[known] != self.labels[known]).astype(int)
                for name, detector in looking.items():
                    if name not in fired and detector.look(ranks, wrong):
                        fired[name] = seen, ""
                if len(fired) > len(others):
                    return fired
        return fired

    def drop(self, kind: str, backbone: bool = False) -> float:
        """Return by how much the accuracy of a kind, or the backbone's on it, lies below that of clean samples."""

        def accuracy(name: str, of_backbone: bool) -> float:
            found, shares = self.kinds[name]
            records = self.records.get(name, self.clean)
            answered = records.topk_classes[-1, :, 0] if of_backbone else found.prediction
            return float(shares @ (answered == self.labels))

        return accuracy("as before", of_backbone=False) - accuracy(kind, backbone)


def false_alarms(streams: Streams, count: int, seed: int, others: Mapping[str, Maker]) -> None:
    """Print how many streams without a change raise an alarm."""
    fired = dict.fromkeys(["monitor", *others], 0)
    for number in range(count):
        for name in streams.fires([("as before", ANSWERS)], others, (seed, number), LONG_STEP):
            fired[name] += 1
        if (number + 1) % 100 == 0 or number + 1 == count:
            told = ", ".join(f"{name} {times} ({times / (number + 1):.1%})" for name, times in fired.items())
            print(
                f"of {number + 1} streams of {ANSWERS} answers without a change there was an alarm in: {told}",
                flush=True,
            )


def power(streams: Streams, count: int, seed: int, others: Mapping[str, Maker]) -> None:
    """Print how soon each shift is noticed, and what the fallback saves of what staying would lose."""
    for kind in streams.kinds:
        found = []
        for number in range(count):
            quiet = QUIET - STEP * (number * 8 % 21)  # blocks that are looked at begin anywhere before the shift
            fires = streams.fires([("as before", quiet), (kind, WITHIN)], others, (seed, number))
            found.append({name: (at - quiet, cause) for name, (at, cause) in fires.items()})
        staying, backbone = streams.drop(kind), streams.drop(kind, backbone=True)
        print(f"{kind}: {staying:.2%} less accurate, the backbone there {backbone:.2%}")
        for name in ("monitor", *others):
            fired = [each[name] for each in found if name in each]
            delays, early = [at for at, _ in fired if at > 0], sum(at <= 0 for at, _ in fired)
            middle = f"{np.median(delays):.0f} answers" if delays else "-"
            told = (
                f"  {name:18} noticed in {len(delays):3} of {count} within {WITHIN}, median {middle}; early in {early}"
            )
            if name == "monitor":
                share = (sum(delays) + HORIZON * (count - len(delays))) / (HORIZON * count)  # until it falls back
                told += f"; by {dict(Counter(cause for at, cause in fired if at > 0))}"
                told += f"; with the fallback {share * staying + (1 - share) * backbone:.2%} lost over {HORIZON}"
            print(told, flush=True)


def cost(streams: Streams, seed: int) -> None:
    """Print what observing costs."""
    random = np.random.default_rng(seed)
    for size in (1, 8, 64):
        monitor, found = streams.monitor(streams.reference(random), seed), streams.evaluations["as before"]
        rows = [random.integers(len(found.exit_index), size=size) for _ in range(20_000 // size)]
        answered = [(found.exit_index[each], found.confidence[each], found.prediction[each]) for each in rows]
        images = [{"images": streams.images["as before"][each]} for each in rows]
        started = time.process_time()
        for given, taken in zip(answered, images, strict=True):
            monitor.observe("point", *given, taken)
        spent = (time.process_time() - started) / (len(rows) * size)
        print(f"batches of {size}: {spent * 1e6:.1f} us of processor time an answer")


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("false", "power", "cost"))
    parser.add_argument("--streams", type=int)
    parser.add_argument("--work", type=Path, default=Path("build/monitor"))
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-inputs", dest="inputs", action="store_false")
    parser.add_argument("--others", nargs="*", default=[], choices=OTHERS, metavar="NAME", help=", ".join(OTHERS))
    options = parser.parse_args()
    others = {name: OTHERS[name]() for name in options.others}
    torch.set_num_threads(1)
    streams = Streams(options.work, options.images, inputs=options.inputs)
    if options.what == "false":
        false_alarms(streams, options.streams or 1_000, options.seed, others)
    elif options.what == "power":
        power(streams, options.streams or 100, options.seed, others)
    else:
        cost(streams, options.seed)


if __name__ == "__main__":
    main()
