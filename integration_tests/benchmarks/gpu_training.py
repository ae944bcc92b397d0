"""Training on a GPU against the same training on the CPU; `gpu.py` runs it."""

import contextlib
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from gpu_chain import Check
from torch import Tensor, nn

from dynamic_exit.candidates.fine_tuning import FineTuner
from dynamic_exit.candidates.teacher import Teacher, TeacherAnswers
from dynamic_exit.core import distributed
from dynamic_exit.core.batching import run_in_batches
from dynamic_exit.core.cache import Cache
from dynamic_exit.cost import node_macs
from dynamic_exit.data.loading import load_splits
from dynamic_exit.data.split import UNNAMED, Split
from dynamic_exit.graph import Classifier, capture, find_cuts, split
from dynamic_exit.passes.early_exit import (
    EarlyExitStanza,
    ExitTraining,
    FrozenBackbone,
    TrainingSamples,
    attach_exits,
    cheapest_head,
    choose_cuts,
)
from dynamic_exit.passes.tiny_saver import FineTuneStanza
from dynamic_exit.recipe import read_recipe
from dynamic_exit.sources.models.loading import load_model

RECIPE = Path(__file__).resolve().parents[2] / "recipes/quickstart.yaml"
HEADS = ["linear", "mlp", "conv", "attention", "residual"]
#: Accuracies on the CPU and on the GPU may differ by this much.
POINTS = 0.02


def training(device: str, small: bool, check: Check) -> None:
    """Exits and savers: accuracy, seconds and memory."""
    few = [head for head in HEADS if head != "residual"]  # four epochs leave that one anywhere, on a CPU too
    runs = {
        "exits on digits": lambda: exits(digits(1 if small else 3), device, 2 if small else 20, 64),
        "exits on random images": lambda: exits(larger(300 if small else 6000), device, 2 if small else 4, 256, few),
        "the digits' saver": lambda: digits_saver(device, 1 if small else 8),
        "a ResNet-18": lambda: larger_saver(device, 200 if small else 6000, 1 if small else 4),
    }
    for name, run in runs.items():
        found = run()
        check(f"{name}: within {100 * POINTS:.0f} points of the CPU", found["difference"] <= POINTS or small)
        check(f"{name}: the same seed trains the same weights", bool(found["repeats"]))
    check("a resumed training ends with the same weights", resumed(digits(1), device, 4))


@dataclass
class World:
    """A backbone in segments, and samples to train on and to test on."""

    name: str
    backbone: FrozenBackbone
    input_name: str
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def digits(count: int) -> World:
    """The ResNet-34 of the quickstart, cut at `count` places."""
    recipe = read_recipe(RECIPE)
    splits = load_splits(recipe.data, recipe.seed)
    samples = {name: (each.tensors[UNNAMED], torch.from_numpy(each.labels)) for name, each in splits.items()}
    test = tuple(torch.cat(each) for each in zip(samples["calibration"], samples["test"], strict=True))
    return _world("digits", load_model(recipe.model).eval(), samples["train"], test, count)


def larger(samples: int, size: int = 32, width: int = 64) -> World:
    """Noise with one of ten coarse patterns in each image, its class, and a network with random weights."""
    torch.manual_seed(0)
    labels = torch.randint(10, (samples + samples // 4,))
    patterns = nn.functional.interpolate(torch.randn(10, 3, 4, 4), size=(size, size))
    images = patterns[labels] * 0.15 + torch.randn(len(labels), 3, size, size)
    layers = [nn.Conv2d(3, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, width, 3, 1, 1), nn.ReLU(),
              nn.Conv2d(width, width, 3, 1, 1), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, 2, 1), nn.ReLU(),
              nn.Flatten(), nn.Linear(2 * width * (size // 4) ** 2, 10)]  # fmt: skip
    blocks = [nn.Sequential(*layers[at : at + 2]) for at in range(0, 8, 2)]
    model = nn.Sequential(*blocks, nn.Sequential(*layers[8:])).eval()
    parts = (images[:samples], labels[:samples]), (images[samples:], labels[samples:])
    return _world("random images", Classifier(model).eval(), *parts, 3)


def _world(name: str, classifier: Classifier, train: Any, test: Any, count: int) -> World:
    program = capture(classifier, (train[0][:2],))
    macs = node_macs(program.graph_module, program.example_inputs)
    total = sum(macs.values())
    stanza = EarlyExitStanza(heads=HEADS)
    cuts = choose_cuts(find_cuts(program, macs), "auto", count, cheapest_head(stanza.entries, program.classes, total))
    backbone = FrozenBackbone(split(program, cuts), cuts, program.classes)
    return World(name, backbone, program.input_names[0], train, test)


class Peak:
    """Bytes at the peak within a context: of the GPU's memory, or of the process."""

    def __init__(self, device: str):
        self.device, self.bytes = device, 0

    def __enter__(self) -> "Peak":
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        else:
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here, on Linux
        return self

    def __exit__(self, *_: object) -> None:
        self.bytes = torch.cuda.max_memory_allocated() if self.device == "cuda" else _resident_peak()


def _resident_peak() -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def exits(
    world: World, device: str, epochs: int, batch_size: int, judged: Sequence[str] = HEADS
) -> dict[str, float]:  # fmt: skip
    """Train exits on the CPU and on the GPU and print what came of it; return the figures, of `judged` heads alone."""
    stanza = EarlyExitStanza(
        heads=HEADS, training={"epochs": epochs, "batch_size": batch_size, "weighting": "none", "patience": epochs}
    )
    samples = TrainingSamples({world.input_name: world.train[0]}, world.train[1])
    found, seconds, peaks = {}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        once = stanza.model_copy(update={"training": stanza.training.model_copy(update={"epochs": 1})})
        for place in ("cpu", device):  # fills the cache of features, and starts both devices
            attach_exits(world.backbone, samples, ExitTraining(once, workdir=folder, device=place))
        for run, place in {"cpu": "cpu", "gpu": device, "again": device}.items():
            began = time.perf_counter()
            with Peak(place) as peak:
                found[run] = attach_exits(world.backbone, samples, ExitTraining(stanza, workdir=folder, device=place))
            seconds[run], peaks[run] = time.perf_counter() - began, peak.bytes
    accuracies = {run: _accuracies(world, each) for run, each in found.items()}
    names = [name for name in accuracies["cpu"] if name.rpartition(":")[2] in judged]
    worst = max(abs(accuracies["cpu"][name] - accuracies["gpu"][name]) for name in names)
    equal = same_weights(*(nn.ModuleList(head for _, head in found[run].values()) for run in ("gpu", "again")))
    print(f"\nexits on {world.name}: {len(found['cpu'])} heads, {epochs} epochs, batches of {batch_size}, "
          f"{len(world.train[1])} samples")  # fmt: skip
    print(f"  {'head':34}{'CPU':>8}{device:>8}  points")
    for name, cpu in accuracies["cpu"].items():
        gpu = accuracies["gpu"][name]
        print(f"  {name:34}{cpu:8.1%}{gpu:8.1%}  {100 * (gpu - cpu):+.1f}")
    print(f"  seconds {device} over CPU {seconds['gpu'] / seconds['cpu']:.2f} ({seconds['gpu']:.1f} and again "
          f"{seconds['again']:.1f} against {seconds['cpu']:.1f} s on {torch.get_num_threads()} threads)")  # fmt: skip
    print(f"  memory at its peak: {peaks['gpu'] / 1e6:.0f} MB of {device}, {peaks['cpu'] / 1e6:.0f} MB of the process")
    print(f"  largest difference of {', '.join(judged)}: {100 * worst:.1f} points; trained twice, the same bits: "
          f"{equal}", flush=True)  # fmt: skip
    return {"difference": worst, "ratio": seconds["gpu"] / seconds["cpu"], "repeats": float(equal)}


@torch.no_grad()
def _accuracies(world: World, attached: dict[str, tuple[int, nn.Module]]) -> dict[str, float]:
    right = dict.fromkeys(attached, 0)
    images, labels = world.test
    for rows in torch.arange(len(labels)).split(250):
        hidden = images[rows]
        for index, segment in enumerate(world.backbone.segments):
            hidden = segment(hidden)
            for name, (place, head) in attached.items():
                if place == index:
                    right[name] += int((head(hidden).argmax(1) == labels[rows]).sum())
    return {name: count / len(labels) for name, count in right.items()}


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    """Whether two modules hold the same bits."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(*each) for each in pairs)


def resumed(world: World, device: str, epochs: int) -> bool:
    """Whether a training that goes on from a checkpoint ends with the bits of one that was not interrupted."""
    samples = TrainingSamples({world.input_name: world.train[0]}, world.train[1])
    stanza = EarlyExitStanza(heads=["mlp"], training={"epochs": epochs})
    made = []
    for stops in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            training = ExitTraining(stanza, workdir=folder, device=device, resume=True)
            if stops:
                with _stopped_after(epochs // 2), contextlib.suppress(KeyboardInterrupt):
                    attach_exits(world.backbone, samples, training)
            attached = attach_exits(world.backbone, samples, training)
        made.append(nn.ModuleList(head for _, head in attached.values()))
    return same_weights(*made)


@contextlib.contextmanager
def _stopped_after(epochs: int) -> Iterator[None]:
    from dynamic_exit.passes.early_exit.train import Trainer

    report = Trainer._report

    def interrupt(trainer: Trainer, *rest: Any) -> None:
        report(trainer, *rest)
        if trainer.epoch == epochs:
            raise KeyboardInterrupt

    with mock.patch.object(Trainer, "_report", interrupt):
        yield


@contextlib.contextmanager
def training_on(device: str) -> Iterator[None]:
    """Savers are trained on a GPU wherever there is one; within this context on the device that is named."""
    with mock.patch.object(distributed, "device", lambda: torch.device(device)):
        yield


def digits_saver(device: str, epochs: int) -> dict[str, float]:
    """Fine-tune a saver of the digits, taught by the quickstart's backbone, as a run does."""
    recipe, savers = read_recipe(RECIPE), read_recipe(RECIPE.with_name("digits_vit.yaml"))
    splits = load_splits(recipe.data, recipe.seed)
    source = {each.stage_name: each for each in savers.dynamic_exit.tiny_saver.candidates}["saver_medium"]
    test = [torch.cat([splits[part].tensors[UNNAMED] for part in ("calibration", "test")])]
    labels = torch.cat([torch.from_numpy(splits[part].labels) for part in ("calibration", "test")])
    backbone = load_model(recipe.model).eval()
    stanza = FineTuneStanza(epochs=epochs)
    return _saver(
        "the digits' saver", lambda: load_model(source), splits["train"], backbone, stanza, device, test, labels
    )


def larger_saver(device: str, samples: int, epochs: int) -> dict[str, float]:
    """Train a ResNet-18 from random weights on random images with a pattern in each, as a saver."""
    import timm

    world = larger(samples)
    names = {"x": world.train[0].numpy()}

    def load() -> Classifier:
        torch.manual_seed(1)
        return Classifier(timm.create_model("resnet18", num_classes=10)).eval()

    backbone = nn.Sequential(*world.backbone.segments)
    stanza, train = FineTuneStanza(epochs=epochs, batch_size=128), Split("train", names, world.train[1].numpy())
    return _saver("a ResNet-18 on 32 px", load, train, backbone, stanza, device, [world.test[0]], world.test[1])


def _saver(
    name: str, load: Callable[[], Classifier], train: Split, backbone: nn.Module, stanza: FineTuneStanza, device: str,
    test: list[Tensor], labels: Tensor,
) -> dict[str, float]:  # fmt: skip
    made, seconds, peaks = {}, {}, {}
    shared = Cache(None)
    teacher = TeacherAnswers(Teacher(backbone, "backbone", tuple(train.tensors)), train, 10, shared)
    first = FineTuner(stanza.model_copy(update={"epochs": 1}), train, teacher, 0, shared)
    for place in ("cpu", device):  # the teacher's answers are cached, and both devices have started
        with training_on(place):
            first.tune(name, load, f"first {place}")
    for run, place in {"cpu": "cpu", "gpu": device, "again": device}.items():
        tuner = FineTuner(stanza, train, teacher, 0, shared)
        began = time.perf_counter()
        with Peak(place) as peak, training_on(place):
            made[run], _ = tuner.tune(name, load, run)
        seconds[run], peaks[run] = time.perf_counter() - began, peak.bytes
    models = {run: each() for run, each in made.items()}
    right = {
        run: float((run_in_batches(model, test).argmax(1) == labels).float().mean()) for run, model in models.items()
    }
    before = float((run_in_batches(load(), test).argmax(1) == labels).float().mean())
    equal = same_weights(models["gpu"], models["again"])
    print(f"\n{name}: {stanza.epochs} epochs, batches of {stanza.batch_size}, {len(train.labels)} samples")
    print(f"  accuracy {before:.1%} before, {right['cpu']:.1%} from the CPU, {right['gpu']:.1%} from {device}")
    print(f"  seconds {device} over CPU {seconds['gpu'] / seconds['cpu']:.2f} ({seconds['gpu']:.1f} and again "
          f"{seconds['again']:.1f} against {seconds['cpu']:.1f} s on {torch.get_num_threads()} threads)")  # fmt: skip
    print(f"  memory at its peak: {peaks['gpu'] / 1e6:.0f} MB of {device}, {peaks['cpu'] / 1e6:.0f} MB of the process; "
          f"trained twice, the same bits: {equal}", flush=True)  # fmt: skip
    return {"difference": abs(right["cpu"] - right["gpu"]), "repeats": float(equal)}
