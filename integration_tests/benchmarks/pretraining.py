"""Masked pre-training with few labels: `python pretraining.py [--sets ECG200 ...] [--seeds 5] [--pretrain JSON]`.

All series of a UCR set are shuffled by the seed; one half is for training, the other for testing. An encoder, that of
the maker `series`, is pre-trained on all of the training half without labels, or not at all, and then trained with a
linear head on the share of it that has labels, at least one of each class. All arms begin with the same weights and
take the same number of steps with labels. Printed is the accuracy on the testing half, and the difference between the
arms with the standard error of the paired difference over sets and seeds. $DYNAMIC_EXIT_DATA names the folder that
holds ucr/ and ecg/.
"""

import argparse
import copy
import json
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dynamic_exit import pretrain
from dynamic_exit.passes.tiny_saver.makers.kinds.series import SeriesNet
from dynamic_exit.passes.training import LabeledInputs, TrainingRun, train

SETS = ("ECG200", "ECGFiveDays", "TwoLeadECG", "ECG5000", "CBF", "MoteStrain")
SHARES = (0.1, 0.25)
PRETRAIN = {"epochs": 100, "mask": 0.5, "segment": 8, "learning_rate": 3e-3}
#: Steps with labels, whatever their number.
STEPS = 400
DECAY = 0.75
ARMS = ("without", "with", "with, by layer")


@dataclass(frozen=True)
class FineTuning:
    """Options of the training with labels."""

    epochs: int
    batch_size: int = 16
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    augment: str = "none"


def load(name: str) -> tuple[Tensor, Tensor]:
    """Return all series (N, 1, length) of a set, each with mean 0 and standard deviation 1, and labels from 0."""
    data = Path(os.environ["DYNAMIC_EXIT_DATA"])
    if name == "ECG5000":
        with np.load(data / "ecg/ecg5000_train500.npz") as arrays:
            x, y = arrays["x"], arrays["y"]
    else:
        with np.load(data / "ucr/ucr.npz") as arrays:
            x, y = (np.concatenate([arrays[f"{name}.{part}_{key}"] for part in ("train", "test")]) for key in "xy")
    x = (x - x.mean(axis=1, keepdims=True)) / np.maximum(x.std(axis=1, keepdims=True), 1e-6)
    return torch.from_numpy(x[:, None]).float(), torch.from_numpy(np.unique(y, return_inverse=True)[1])


def labelled_rows(labels: Tensor, share: float) -> Tensor:
    """Return rows, int64: of shuffled samples, that share of each class, at least one."""
    rows = []
    for label in labels.unique():
        mine = (labels == label).nonzero()[:, 0]
        rows.append(mine[: max(1, round(share * len(mine)))])
    return torch.cat(rows)


def run_arms(series: Tensor, labels: Tensor, seed: int, options: dict[str, float]) -> dict[float, list[float]]:
    """Return the accuracies of all arms of one seed, by share of labels."""
    order = torch.randperm(len(series), generator=torch.Generator().manual_seed(seed))
    train_rows, test_rows = order[: len(order) // 2], order[len(order) // 2 :]
    x, y = series[train_rows], labels[train_rows]
    torch.manual_seed(seed)
    fresh = SeriesNet(16, 2, 1, [0.0], [1.0], int(labels.max()) + 1)
    pretrained = copy.deepcopy(fresh)
    pretrain(pretrained.encoder, x, options, seed=seed)
    found = {}
    for share in SHARES:
        rows = labelled_rows(y, share)
        found[share] = []
        for model, decay in ((fresh, 1.0), (pretrained, 1.0), (pretrained, DECAY)):
            tuned = copy.deepcopy(model)
            fine_tune(tuned, x[rows], y[rows], seed, decay)
            with torch.no_grad():
                answers = tuned(series[test_rows]).argmax(1)
            found[share].append(float((answers == labels[test_rows]).float().mean()))
    return found


def fine_tune(model: SeriesNet, series: Tensor, labels: Tensor, seed: int, decay: float) -> None:
    """Train a network on labels."""
    epochs = -(-STEPS // max(1, len(labels) // FineTuning(1).batch_size))

    def loss_of(logits: Tensor, rows: Tensor, batch: list[Tensor], epoch: int) -> Tensor:
        return functional.cross_entropy(logits, labels[rows])

    run = TrainingRun(seed, "a network", layer_decay=decay)
    train(model, LabeledInputs((series,), labels), loss_of, FineTuning(epochs), run)


def describe(accuracies: np.ndarray) -> str:
    """Return one row of the table for accuracies (pairs, arms), in percent."""
    cells = [f"{100 * accuracies[:, 0].mean():.2f}"]
    for arm in (1, 2):
        change = 100 * (accuracies[:, arm] - accuracies[:, 0])
        error = change.std(ddof=1) / np.sqrt(len(change)) if len(change) > 1 else float("nan")
        cells.append(f"{100 * accuracies[:, arm].mean():.2f} ({change.mean():+.2f} +- {error:.2f})")
    return " | ".join(cells)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--pretrain", type=json.loads, default=PRETRAIN)
    arguments = parser.parse_args()
    logging.getLogger("dynamic_exit").setLevel(logging.WARNING)
    started, table = time.process_time(), {share: [] for share in SHARES}
    print(f"pre-training {arguments.pretrain}\nset, labels | {' | '.join(ARMS)}")
    for name in arguments.sets:
        series, labels = load(name)
        found = [run_arms(series, labels, seed, arguments.pretrain) for seed in range(arguments.seeds)]
        for share in SHARES:
            rows = np.array([each[share] for each in found])
            table[share].append(rows)
            print(f"{name}, {share:.0%} | {describe(rows)}", flush=True)
    for share, rows in table.items():
        print(f"all, {share:.0%} | {describe(np.concatenate(rows))}")
        if len(rows) > 1:
            print(f"all, {share:.0%}, sets as units | {describe(np.stack([each.mean(axis=0) for each in rows]))}")
    print(f"{time.process_time() - started:.0f} s of the processor")


if __name__ == "__main__":
    main()
