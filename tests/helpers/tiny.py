"""A world small enough to run whole recipes in: images of 6 x 6 pixels, and models that know them."""

import copy
import functools
from pathlib import Path

import numpy as np
import yaml
from safetensors.torch import load_file, save_file

#: What `make_weights.py` trained: the last bits of a training differ between processors, so that no test trains these.
WEIGHTS = Path(__file__).parents[1] / "weights"
CLASSES = 3
SIZES = {"train": 192, "calibration": 160, "test": 150}
#: Written beside the recipes, which name its functions as ``models.py:backbone``.
MODELS = '''
from collections import OrderedDict

from torch import nn


def block(before, after):
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU())


def backbone(width=8, classes=3):
    """Four blocks, so that three ends of blocks lie before the last one."""
    pairs = [(1, 2), (2, 4), (4, width), (width, width)]
    blocks = {f"block{number}": block(*pair) for number, pair in enumerate(pairs, start=1)}
    head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, classes))
    return nn.Sequential(OrderedDict(blocks, head=head))


def saver(width=2, classes=3):
    return nn.Sequential(
        nn.AvgPool2d(2), nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(9 * width, classes)
    )


def flat(classes=3):
    """All of its cost in one layer: nothing to cut."""
    return nn.Sequential(nn.Flatten(), nn.Linear(36, classes))


def branches(classes=3):
    """Two long branches that meet in the logits: nowhere does one tensor alone carry everything on."""
    return Branches(classes)


class Branches(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.left = nn.Sequential(nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, classes))
        self.right = nn.Sequential(nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, classes))

    def forward(self, x):
        return self.left(x.flatten(1)) * self.right(x.flatten(1))
'''


@functools.cache
def samples(split):
    """Inputs float32 (N, 1, 6, 6) and labels of a split."""
    return draw(SIZES[split], list(SIZES).index(split))


def draw(count, seed):
    """Inputs float32 (N, 1, 6, 6) and labels. Stripes tell the class, whose phase is random: across, upright, checks.

    Two samples of three show it in a bright pair of columns too, which a saver sees, and it sees no stripes.
    """
    generator = np.random.default_rng(seed)
    labels = generator.integers(CLASSES, size=count)
    rows, columns = np.indices((6, 6)) % 2
    stripes = 1.0 - 2 * np.stack([rows, columns, (rows + columns) % 2])
    bright = np.stack([np.repeat(np.arange(3) == label, 2) * np.ones((6, 1)) for label in range(CLASSES)])
    phase, easy = generator.choice([-1, 1], size=(count, 1, 1)), generator.random((count, 1, 1)) < 2 / 3
    images = stripes[labels] * phase + 3 * easy * bright[labels] + generator.normal(scale=1.4, size=(count, 6, 6))
    return images[:, None].astype(np.float32), labels.astype(np.int64)


@functools.cache
def module():
    """The module that MODELS makes."""
    space = {"__name__": "tiny_models"}
    exec(MODELS, space)  # noqa: S102  the text above
    return space


@functools.cache
def _read(name, width):
    model = module()[name](width)
    model.load_state_dict(load_file(WEIGHTS / f"{name}{width}.safetensors"))
    return model.eval()


def backbone():
    """A trained copy of the backbone."""
    return copy.deepcopy(_read("backbone", 8))


def saver(width=2):
    """A trained copy of a saver of width 2 or 4."""
    return copy.deepcopy(_read("saver", width))


def recipe(**changes):
    """A whole recipe as a mapping; `changes` are dotted keys with two underscores for a dot, None takes a key out."""
    candidates = [
        {"source": "python", "name": "models.py:saver", "stage": f"saver{width}",
         "weights": f"saver{width}.safetensors", "arguments": {"width": width}}
        for width in (2, 4)
    ]  # fmt: skip
    values = {
        "seed": 3,
        "model": {"source": "python", "name": "models.py:backbone", "weights": "backbone.safetensors"},
        "data": {
            "source": "npz",
            "path": "data",
            "splits": {key: key for key in SIZES},
            "classes": ["left", "middle", "right"],
        },
        "quantization": {"static_quant": {"w_dtype": "int8", "act_dtype": "uint8"}},
        "dynamic_exit": {
            "tiny_saver": {"candidates": candidates, "max_savers": 1, "fuse": "none"},
            "early_exit": {"count": 2, "training": {"epochs": 15}},
            "tuning": {
                "max_accuracy_drop": 0.01,
                "points": [{"max_accuracy_drop": 0.1}, {"budget": 0.03, "name": "frugal"}],
            },
        },
        "export": {"directory": "out"},
    }
    return changed(values, changes)


def changed(values, changes):
    """Change a recipe's mapping: dotted keys with two underscores for a dot, None takes a key out."""
    for key, value in changes.items():
        *parents, last = key.split("__")
        place = values
        for step in parents:
            place = place[int(step) if isinstance(place, list) else step]
        if value is None:
            del place[last]
        else:
            place[int(last) if isinstance(place, list) else last] = value
    return values


def build(folder: Path, **changes) -> Path:
    """Write models, weights, data and the recipe into a folder, and return the recipe's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "models.py").write_text(MODELS)
    save_file(backbone().state_dict(), folder / "backbone.safetensors")
    for width in (2, 4):
        save_file(saver(width).state_dict(), folder / f"saver{width}.safetensors")
    (folder / "data").mkdir(exist_ok=True)
    for split in SIZES:
        inputs, labels = samples(split)
        np.savez(folder / "data" / f"{split}.npz", inputs=inputs, labels=labels)
    return write(folder, recipe(**changes))


def write(folder: Path, values, name="recipe.yaml") -> Path:
    """Write a recipe's mapping as YAML."""
    path = folder / name
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def between(confidence) -> float:
    """A threshold that about half of these confidences (N,) are above, in a wide gap: rounding moves none across it."""
    middle = np.sort(np.asarray(confidence, np.float64))[len(confidence) // 4 : -len(confidence) // 4]
    place = np.diff(middle).argmax()
    return float(middle[place : place + 2].mean())


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, with its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if "__pycache__" not in path.parts
    }
