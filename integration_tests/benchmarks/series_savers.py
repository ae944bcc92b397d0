"""Savers made for time series: `python series_savers.py [--sets Crop ...] [--seed S] [--epochs E]`.

A 1-D residual network (Wang et al., arXiv 1611.06455, of three blocks of 64, 128 and 128 channels) is trained on three
quarters of a UCR set's training split; savers are made from it, thresholds are tuned on the other quarter, and figures
are of the test split. A set without a test split has a fifth of its samples set apart first. $DYNAMIC_EXIT_DATA names
the folder that holds ucr/.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from dynamic_exit.data.split import Split
from dynamic_exit.pipeline.run import run
from dynamic_exit.recipe import Recipe

SETS = ("Crop", "MelbournePedestrian", "FaceAll")


class Block(nn.Module):
    """Three convolutions of 8, 5 and 3 values with a shortcut."""

    def __init__(self, given: int, channels: int):
        super().__init__()
        widths = [given, channels, channels, channels]
        layers: list[nn.Module] = []
        for kernel, a, b in zip((7, 5, 3), widths, widths[1:], strict=False):
            layers += [nn.Conv1d(a, b, kernel, padding=kernel // 2, bias=False), nn.BatchNorm1d(b), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])
        self.shortcut = nn.Sequential(nn.Conv1d(given, channels, 1, bias=False), nn.BatchNorm1d(channels))

    def forward(self, series):
        """Map (N, given, L) to (N, channels, L)."""
        return functional.relu(self.layers(series) + self.shortcut(series))


class Backbone(nn.Module):
    """Three blocks, the mean over time, and one layer."""

    def __init__(self, classes: int):
        super().__init__()
        self.blocks = nn.Sequential(Block(1, 64), Block(64, 128), Block(128, 128))
        self.head = nn.Linear(128, classes)

    def forward(self, series):
        """Map (N, 1, L) to logits (N, classes)."""
        return self.head(self.blocks(series).mean(dim=2))


def load(name: str, seed: int) -> dict[str, Split]:
    """Return the splits of one set, each series (1, L) with mean 0 and standard deviation 1."""
    with np.load(Path(os.environ["DYNAMIC_EXIT_DATA"], "ucr", "ucr.npz")) as arrays:
        x, y = arrays[f"{name}.train_x"], arrays[f"{name}.train_y"]
        held = (arrays[f"{name}.test_x"], arrays[f"{name}.test_y"]) if f"{name}.test_x" in arrays else None
    order = np.random.default_rng(seed).permutation(len(y))
    if held is None:
        cut = len(order) // 5
        held, order = (x[order[:cut]], y[order[:cut]]), order[cut:]
    cut = len(order) // 4
    parts = {"train": (x[order[cut:]], y[order[cut:]]), "calibration": (x[order[:cut]], y[order[:cut]]), "test": held}
    return {key: Split(key, {"series": _normalized(a)}, b.astype(np.int64)) for key, (a, b) in parts.items()}


def _normalized(series: np.ndarray) -> np.ndarray:
    centred = series - series.mean(axis=1, keepdims=True)
    return (centred / np.maximum(centred.std(axis=1, keepdims=True), 1e-6))[:, None].astype(np.float32)


def train(split: Split, classes: int, seed: int, epochs: int) -> nn.Module:
    """Train the backbone."""
    torch.manual_seed(seed)
    model, series, labels = Backbone(classes), torch.from_numpy(split.inputs["series"]), torch.from_numpy(split.labels)
    batches = max(1, len(labels) // 32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=epochs * batches)
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).tensor_split(batches):
            optimizer.zero_grad()
            functional.cross_entropy(model(series[rows]), labels[rows]).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def measure(name: str, makers: list[dict[str, object]], seed: int, epochs: int) -> None:
    """Print the figures of one set."""
    splits = load(name, seed)
    classes = int(max(split.labels.max() for split in splits.values())) + 1
    started = time.perf_counter()
    backbone = train(splits["train"], classes, seed, epochs)
    trained = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        recipe = Recipe.model_validate(
            {
                "seed": seed,
                "model": {"source": "python", "name": "Backbone"},
                "data": {"source": "python", "path": "memory", "splits": {key: key for key in splits}},
                "quantization": {"static_quant": {"w_dtype": "int8", "act_dtype": "uint8"}},
                "dynamic_exit": {
                    "tiny_saver": {"candidates": makers},
                    "tuning": {"max_accuracy_drop": 0.005, "cost": "latency", "points": [{"max_accuracy_drop": 0.005}]},
                    "cache": {"enabled": False},
                },
                "export": {"directory": str(Path(folder, "out"))},
            },
            context={"base": folder},
        )
        started = time.perf_counter()
        metrics = run(recipe, model=backbone, splits=splits).metrics
    static, row = metrics.rows[0], metrics.row("accuracy-drop-0.5%")
    sizes = ", ".join(f"{key} {len(split)}" for key, split in splits.items())
    seconds = f"backbone trained in {trained:.0f} s, run {time.perf_counter() - started:.0f} s"
    print(f"{name}: {classes} classes, {sizes}; {seconds}")
    for each in metrics.candidates:
        accuracy = "" if each.accuracy is None else f"{each.accuracy:.1%} right, "
        cost = "" if each.cost is None else f"{each.cost / metrics.baseline_cost:.3f} of the cost, "
        print(f"  {each.stage}: {accuracy}{cost}{each.why}")
    speeds = ", ".join(f"{row.speed_up[size]:.1f}x at batch {size}" for size in row.speed_up)
    print(f"  backbone {static.accuracy:.2%}; at 0.5 points allowed {row.accuracy:.2%}, cost {row.cost_ratio:.3f}")
    print(f"  {speeds}")
    for note in metrics.notes:
        print(f"  {note}")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--makers", nargs="+", default=["auto"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args()
    for name in arguments.sets:
        measure(name, [{"make": maker} for maker in arguments.makers], arguments.seed, arguments.epochs)


if __name__ == "__main__":
    main()
