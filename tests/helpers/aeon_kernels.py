"""Kernels of aeon's Rocket and MiniRocket as those of this package, and what aeon computes with them.

    python tests/helpers/aeon_kernels.py

writes the features that the tests compare with, where aeon 1.6 is installed; its dependencies and the exact versions of
this project exclude each other.
"""

from pathlib import Path

import numpy as np
import torch

from dynamic_exit.passes.tiny_saver.makers.rocket.features import KernelGroup
from dynamic_exit.passes.tiny_saver.makers.rocket.minirocket_features import KERNELS, MiniRocketFeatures, fixed_kernels
from dynamic_exit.passes.tiny_saver.makers.rocket.rocket_features import RocketFeatures

REFERENCE = Path(__file__).parents[1] / "passes/tiny_saver/makers/rocket/aeon.npz"
KINDS, CHANNELS = ("rocket", "minirocket"), (1, 3)


def convert_rocket(kernels, channels):
    """aeon's kernels as features of ours, and for each of our features the number of aeon's."""
    weights, lengths, biases, dilations, paddings, counts, seen = kernels
    starts, places = np.cumsum([0, *(lengths * counts)]), np.cumsum([0, *counts])
    geometry = np.stack([lengths, dilations, paddings], axis=1)
    groups, order = [], []
    for length, dilation, padding in np.unique(geometry, axis=0).tolist():
        rows = np.flatnonzero((geometry == (length, dilation, padding)).all(1))
        weight = np.zeros((len(rows), channels, length), np.float32)
        for place, row in enumerate(rows):
            own = weights[starts[row] : starts[row + 1]].reshape(counts[row], length)
            weight[place, seen[places[row] : places[row + 1]]] = own
        groups.append(KernelGroup(torch.from_numpy(weight), torch.from_numpy(biases[rows, None]), dilation, padding))
        order.extend(rows)
    # aeon puts the two features of a kernel side by side
    return RocketFeatures(groups), np.concatenate([2 * np.array(order), 2 * np.array(order) + 1])


def convert_minirocket(parameters, channels):
    """aeon's parameters as features of ours, and for each of our features the number of aeon's."""
    counts, seen, dilations, biases_of_dilation, biases = parameters
    places, groups, order, start = np.cumsum([0, *counts]), [], [], 0
    for number, (dilation, size) in enumerate(zip(dilations.tolist(), biases_of_dilation.tolist(), strict=True)):
        weight = fixed_kernels(channels)
        for kernel in range(KERNELS):
            combination = number * KERNELS + kernel
            looked_at = seen[places[combination] : places[combination + 1]]
            weight[kernel, np.setdiff1d(np.arange(channels), looked_at)] = 0
        rows = start + np.arange(KERNELS * size).reshape(KERNELS, size)
        bias, start = torch.from_numpy(biases[rows]), start + KERNELS * size
        padded = (number + np.arange(KERNELS)) % 2 == 0
        for some, padding in ((padded, 4 * dilation), (~padded, 0)):
            groups.append(KernelGroup(weight[some], bias[some], dilation, padding))
            order.extend(rows[some].ravel())
    return MiniRocketFeatures(groups), np.array(order)


CONVERT = {"rocket": convert_rocket, "minirocket": convert_minirocket}


def run_aeon(kind, series, count, seed):
    """aeon's kernels, fitted to series, and its features of them."""
    from aeon.transformations.collection.convolution_based import MiniRocket, Rocket

    transform = {"rocket": Rocket, "minirocket": MiniRocket}[kind](count, random_state=seed)
    features = transform.fit_transform(series)
    return transform.kernels if kind == "rocket" else transform.parameters, np.asarray(features)


def random_series(samples, channels, length, seed):
    """Random walks of different levels and sizes."""
    generator = np.random.default_rng(seed)
    steps = generator.standard_normal((samples, channels, length)).cumsum(axis=2)
    return (steps * generator.uniform(0.1, 10, (samples, channels, 1)) + generator.normal(0, 5)).astype(np.float32)


def write_reference():
    arrays = {}
    for kind in KINDS:
        for channels in CHANNELS:
            series = random_series(5, channels, 61, channels)
            kernels, features = run_aeon(kind, series, 300, 7)
            name = f"{kind}.{channels}"
            arrays |= {f"{name}.series": series, f"{name}.features": features}
            arrays |= {f"{name}.kernels.{place}": array for place, array in enumerate(kernels)}
    np.savez_compressed(REFERENCE, **arrays)


def read_reference(kind, channels):
    """Series, aeon's kernels and aeon's features."""
    with np.load(REFERENCE) as arrays:
        name = f"{kind}.{channels}"
        count = sum(key.startswith(f"{name}.kernels.") for key in arrays)
        kernels = [arrays[f"{name}.kernels.{place}"] for place in range(count)]
        return arrays[f"{name}.series"], kernels, arrays[f"{name}.features"]


if __name__ == "__main__":
    write_reference()
