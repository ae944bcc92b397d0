"""scikit-learn's digits, and models of several widths that know them: random features and a layer by least squares."""

from pathlib import Path

import numpy as np
import tiny
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits

#: Written beside the recipe, which names its function as ``models.py:features``.
MODELS = """
from collections import OrderedDict

from torch import nn


def features(width, classes=10):
    return nn.Sequential(OrderedDict(
        flat=nn.Flatten(), hidden=nn.Linear(64, width), active=nn.ReLU(), head=nn.Linear(width, classes)
    ))
"""
SPLITS = {"train": slice(0, 700), "calibration": slice(700, 1250), "test": slice(1250, 1797)}


def samples(split):
    """Inputs float32 (N, 1, 8, 8) in 0..1 and labels int64 (N,) of a split."""
    digits, order = load_digits(), np.random.default_rng(0).permutation(1797)
    rows = order[SPLITS[split]]
    return (digits.images[rows, None] / 16).astype(np.float32), digits.target[rows].astype(np.int64)


def state(width, classes=10, seed=0):
    """Weights of a model: ridge regression of the classes on random features, scaled so that some are unsure."""
    generator = np.random.default_rng([seed, width])
    inputs, labels = samples("train")
    flat = inputs.reshape(len(inputs), -1).astype(np.float64)
    hidden = generator.normal(scale=0.6, size=(width, 64))
    bias = generator.normal(scale=0.5, size=width)
    found = np.hstack([np.maximum(flat @ hidden.T + bias, 0), np.ones((len(flat), 1))])
    targets = 2.0 * (labels[:, None] == np.arange(classes)) - 1
    head = found.T @ np.linalg.solve(found @ found.T + np.eye(len(found)), targets) * 4  # the ridge, by samples
    values = {"hidden.weight": hidden, "hidden.bias": bias, "head.weight": head[:-1].T, "head.bias": head[-1]}
    return {name: torch.from_numpy(np.ascontiguousarray(value, np.float32)) for name, value in values.items()}


def save(folder: Path, width, classes=10) -> None:
    """Write a model's weights where its stanza names them."""
    save_file(state(width, classes), folder / f"{width}.safetensors")


def source(width, **changes):
    """The stanza of a model."""
    return {
        "source": "python", "name": "models.py:features", "weights": f"{width}.safetensors",
        "arguments": {"width": width}, "stage": f"wide{width}", **changes,
    }  # fmt: skip


def build(folder: Path, today=60, larger=(120, 300), savers=(16,), **changes) -> Path:
    """Write models, weights, data and a recipe with `upgrade` into a folder, and return the recipe's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "models.py").write_text(MODELS)
    for width in (today, *larger, *savers):
        save(folder, width)
    (folder / "data").mkdir(exist_ok=True)
    for split in SPLITS:
        inputs, labels = samples(split)
        np.savez(folder / "data" / f"{split}.npz", inputs=inputs, labels=labels)
    values = {
        "seed": 1,
        "model": source(today),
        "upgrade": {"backbones": [source(width) for width in larger]},
        "data": {"source": "npz", "path": "data", "splits": {key: key for key in SPLITS}},
        "dynamic_exit": {
            "tiny_saver": {"candidates": [source(width) for width in savers]},
            "tuning": {"fuse": "none", "confidence": "top1", "points": [{"budget": 1.0}]},
        },
        "export": {"directory": "out"},
    }
    return tiny.write(folder, tiny.changed(values, changes))
