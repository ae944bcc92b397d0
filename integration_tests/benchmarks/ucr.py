"""ROCKET and MiniRocket on 24 UCR sets, with all kernels and pruned, and on 500 heartbeats of ECG5000.

    DYNAMIC_EXIT_DATA=... python integration_tests/benchmarks/ucr.py [--sets CBF Plane ...] [--seeds 0] [--kinds rocket]

Bars: mean accuracy of ROCKET with at most 35 % of its kernels no lower than with all; MiniRocket with at most 36 % of
its multiply-adds within 0.25 points; pruning 400 samples of 20,000 features in under 5 s on one core. P-ROCKET (arXiv
2309.08499) reports 84.74 -> 85.15 % over 30 sets with 35 % of the kernels, and 84.37 -> 84.12 for MiniRocket with 36 %.
Seconds are of the processor, on one thread.
"""

import argparse
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from dynamic_exit.passes.tiny_saver.makers.rocket import RocketFit, RocketOptions, compute_table, fit_table

DATA = Path(os.environ.get("DYNAMIC_EXIT_DATA", ""))
OPTIONS = {"rocket": RocketOptions("rocket", keep=0.32), "minirocket": RocketOptions("minirocket", keep=0.36)}
PRUNING = (None, "pocket", "detach")


@dataclass(frozen=True)
class Samples:
    """Series (N, 1, length) and labels of both splits."""

    train: torch.Tensor
    train_labels: torch.Tensor
    test: torch.Tensor
    test_labels: torch.Tensor

    @property
    def classes(self) -> int:
        return int(max(self.train_labels.max(), self.test_labels.max())) + 1


def read_sets(names: list[str]) -> dict[str, Samples]:
    """All sets with a test split, or those named."""
    with np.load(DATA / "ucr/ucr.npz") as arrays:
        found = names or sorted(key.partition(".")[0] for key in arrays if key.endswith("test_x"))
        return {
            name: Samples(*(
                torch.from_numpy(arrays[f"{name}.{part}_{kind}"])[:, None] if kind == "x"
                else torch.from_numpy(arrays[f"{name}.{part}_{kind}"]).long()
                for part in ("train", "test") for kind in ("x", "y")
            ))
            for name in found
        }  # fmt: skip


def run_set(samples: Samples, options: RocketOptions) -> dict[str, list[float]]:
    """Accuracy, negative log-likelihood, shares of kernels and multiply-adds kept, and seconds, for each pruning."""
    table = compute_table(samples.train, samples.train_labels, samples.classes, options)
    unseen = table.features.compute(samples.test)
    rows = {}
    for prune in PRUNING:
        started = time.process_time()
        fitted = fit_table(table, replace(options, prune=prune))
        seconds = time.process_time() - started
        logits = _logits(fitted, unseen[:, fitted.kept[table.features.kernel_of_feature()]])
        right = (logits.argmax(1) == samples.test_labels).double().mean()
        loss = functional.cross_entropy(logits, samples.test_labels)
        kernels, macs = fitted.kept.double().mean(), table.costs[fitted.kept].sum() / table.costs.sum()
        rows[str(prune)] = [float(value) for value in (right, loss, kernels, macs, seconds)]
    return rows


def _logits(fitted: RocketFit, features: torch.Tensor) -> torch.Tensor:
    model = fitted.classifier
    return functional.linear((features - model.mean) / model.norm, model.weight, model.bias)


def run_sets(kind: str, sets: dict[str, Samples], seeds: list[int]) -> None:
    """Print a row a set and the means."""
    print(f"\n{kind}: accuracy with all kernels, pruned by pocket and by detach; seconds to fit each")
    figures = {name: [] for name in sets}
    for name, samples in sets.items():
        for seed in seeds:
            rows = run_set(samples, replace(OPTIONS[kind], seed=seed))
            figures[name].append([rows[str(prune)] for prune in PRUNING])
        mean = np.mean(figures[name], axis=0)
        print(f"{name:26} " + "  ".join(f"{row[0]:7.2%} {row[4]:5.1f} s" for row in mean), flush=True)
    per_seed = np.array(list(figures.values())).mean(0)
    for place, prune in enumerate(PRUNING):
        right, loss, kernels, macs, _ = per_seed[:, place].mean(0)
        change = 100 * (per_seed[:, place, 0] - per_seed[:, 0, 0])
        print(
            f"mean, prune {prune!s:6}  right {right:.2%}  loss {loss:.4f}  kernels {kernels:.1%}  "
            f"multiply-adds {macs:.1%}  change {change.mean():+.2f} points "
            f"(by seed {' '.join(f'{each:+.2f}' for each in change)})"
        )
    largest = np.array(list(figures.values()))[:, :, 1, 2].max()
    print(f"largest share of kernels kept by pocket: {largest:.1%}", flush=True)


def time_pruning() -> None:
    """Print the seconds to prune 400 samples of 20,000 features, from features to classifier."""
    for classes in (2, 10):
        generator = torch.Generator().manual_seed(0)
        series, labels = torch.randn(400, 1, 100, generator=generator), torch.arange(400) % classes
        table = compute_table(series, labels, classes, OPTIONS["rocket"])
        for prune in ("pocket", "detach"):
            started, by_clock = time.process_time(), time.perf_counter()
            fit_table(table, replace(OPTIONS["rocket"], prune=prune))
            seconds, by_clock = time.process_time() - started, time.perf_counter() - by_clock
            print(
                f"{prune}, 400 x 20,000, {classes} classes: {seconds:.1f} s ({by_clock:.1f} s by the clock)", flush=True
            )


def run_heartbeats(kind: str, seeds: list[int]) -> None:
    """Print the accuracy of five folds of ECG5000's 500 training heartbeats."""
    with np.load(DATA / "ecg/ecg5000_train500.npz") as arrays:
        series, labels = torch.from_numpy(arrays["x"]).float()[:, None], torch.from_numpy(arrays["y"]).long() - 1
    rights = []
    for seed in seeds:
        for held_out in _folds(labels, seed):
            samples = Samples(series[~held_out], labels[~held_out], series[held_out], labels[held_out])
            rows = run_set(samples, replace(OPTIONS[kind], seed=seed))
            rights.append([rows[str(prune)][0] for prune in PRUNING])
    for prune, right in zip(PRUNING, np.transpose(rights), strict=True):
        error = right.std() / len(right) ** 0.5
        print(
            f"{kind}, ECG5000, five folds of 500, prune {prune!s:6}  right {right.mean():.2%} +- {error:.2%}",
            flush=True,
        )


def _folds(labels: torch.Tensor, seed: int) -> list[torch.Tensor]:
    """Five masks, each with a fifth of every class."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    order = order[labels[order].argsort(stable=True)]
    fold = torch.empty_like(labels)
    fold[order] = torch.arange(len(labels)) % 5
    return [fold == each for each in range(5)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=[], help="names of sets; all with a test split")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--kinds", nargs="*", default=list(OPTIONS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    time_pruning()
    sets = read_sets(arguments.sets)
    for kind in arguments.kinds:
        run_sets(kind, sets, arguments.seeds)
        run_heartbeats(kind, arguments.seeds)


if __name__ == "__main__":
    main()
