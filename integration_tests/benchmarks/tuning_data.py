"""Records for the tuning benchmarks: real ones of ImageNet, and synthetic ones that behave like them."""

import os
from pathlib import Path

import numpy as np

from dynamic_exit.records import Records

# multiply-adds at the usual input size, in G
IMAGENET_GMACS = {
    "squeezenet1_1": 0.35, "mobilenetV2_keras": 0.30, "alexnet": 0.71, "squeezenet1_0": 0.82, "resnet18": 1.82,
    "densenet121": 2.87, "densenet169": 3.40, "resnet34": 3.67, "resnet50": 4.11, "densenet201": 4.34,
    "inception_v3": 5.73, "vgg11": 7.61, "vgg11_bn": 7.63, "densenet161": 7.79, "resnet101": 7.83, "vgg13": 11.3,
    "vgg13_bn": 11.3, "resnet152": 11.56, "vgg16": 15.5, "vgg16_bn": 15.5, "vgg19": 19.6, "vgg19_bn": 19.7,
}  # fmt: skip


def data_folder() -> Path:
    """Where the development data lies."""
    default = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    return Path(os.environ.get("DYNAMIC_EXIT_DATA", default))


def imagenet(backbone: str, rows: np.ndarray | slice = slice(None)) -> Records:
    """Records of a backbone with every cheaper model as a saver, costs in multiply-adds."""
    with np.load(data_folder() / "imagenet_records" / "val_top5.npz") as data:
        arrays = {key: data[key] for key in data.files}
    names = {key.removesuffix(".top5").removesuffix("_pytorch"): key[:-5] for key in arrays if key.endswith(".top5")}
    cheaper = [name for name in names if IMAGENET_GMACS[name] < IMAGENET_GMACS[backbone]]
    savers = sorted(cheaper, key=lambda name: (IMAGENET_GMACS[name], name))
    classes, probabilities = [], []
    for name in [*savers, backbone]:
        top = arrays[f"{names[name]}.p1"][rows]
        rest = arrays[f"{names[name]}.p2to5"][rows].astype(np.float32)
        # rounding to float16 may lift the second above the first
        rest = np.minimum(rest, np.nextafter(top, np.float32(0))[:, None])
        probabilities.append(np.concatenate([top[:, None], rest], axis=1))
        classes.append(arrays[f"{names[name]}.top5"][rows].astype(np.int32))
    costs = np.array([IMAGENET_GMACS[name] * 1e9 for name in [*savers, backbone]])
    own, prefix = costs.copy(), np.zeros_like(costs)
    own[-1], prefix[-1] = 0, costs[-1]
    return Records(
        labels=(np.arange(50_000, dtype=np.int64) // 50)[rows],
        stages=(*savers, backbone),
        kinds=("saver",) * len(savers) + ("final",),
        positions=np.array([-1] * len(savers) + [0], dtype=np.int64),
        topk_classes=np.stack(classes),
        topk_probabilities=np.minimum(np.stack(probabilities), np.float32(1)),
        own_cost=own,
        prefix_cost=prefix,
        cost_unit="macs",
    )


def synthetic(samples: int, positions: int = 6, heads: int = 5, seed: int = 0, kept: int = 1) -> Records:
    """Records with exits at every position, made of difficulty and noise; 1,000 classes.

    Label uniform; difficulty d ~ N(0, 1); competence a rising from -0.9 to 1.1 with position, plus 0.08 per head kind;
    margin s = a - d + 0.6 N(0, 1); right with probability sigmoid(2.2 s), else another class at random; confidence =
    sigmoid(2 s + 0.3 N(0, 1) +- 0.4), plus when right.
    """
    random, classes = np.random.default_rng(seed), 1000
    labels = random.integers(classes, size=samples)
    difficulty = random.standard_normal(samples)
    stages, kinds, place, own, prefix, answers, sure = [], [], [], [], [], [], []
    competences = np.linspace(-0.9, 1.1, positions + 1)
    costs = np.linspace(0.12, 1.0, positions + 1)
    for position in range(positions + 1):
        final = position == positions
        for head in range(1 if final else heads):
            margin = competences[position] + 0.08 * head - difficulty + 0.6 * random.standard_normal(samples)
            right = random.random(samples) < 1 / (1 + np.exp(-2.2 * margin))
            other = (labels + random.integers(1, classes, size=samples)) % classes
            noise = 0.3 * random.standard_normal(samples) + np.where(right, 0.4, -0.4)
            answers.append(np.where(right, labels, other).astype(np.int32))
            sure.append((1 / (1 + np.exp(-2 * margin - noise))).astype(np.float32))
            stages.append("final" if final else f"exit{position}.{head}")
            kinds.append("final" if final else "exit")
            place.append(position)
            own.append(0.0 if final else np.linspace(0.0005, 0.0065, heads)[head] if heads > 1 else 0.0005)
            prefix.append(costs[position])
    top, confidence = np.stack(answers)[:, :, None], np.stack(sure)[:, :, None]
    if kept > 1:
        # the other classes share what is left
        top = (top + np.arange(kept, dtype=np.int32)) % classes
        rest = np.minimum(confidence, (1 - confidence) / np.float32(classes - 1))
        confidence = np.concatenate([confidence, np.repeat(rest, kept - 1, axis=2)], axis=2)
    return Records(
        labels=labels.astype(np.int64),
        stages=tuple(stages),
        kinds=tuple(kinds),
        positions=np.array(place, dtype=np.int64),
        topk_classes=top,
        topk_probabilities=confidence,
        own_cost=np.array(own) * 1e9,
        prefix_cost=np.array(prefix) * 1e9,
        cost_unit="macs",
    )
