"""Heartbeats of ECG5000, from $DYNAMIC_EXIT_DATA: `train` (a tenth, with labels), `unlabelled` and `dev`."""

import os
from pathlib import Path

import numpy as np

VARIABLE = "DYNAMIC_EXIT_DATA"
#: Of ten samples of a class in turn, which go into a split: few have labels, and all classes are in `train`.
PLACES = {"train": (0,), "unlabelled": (1, 3, 5, 7), "dev": (2, 4, 6, 8, 9)}
SEED = 0


def load(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs float32 (N, 1, 140), each of mean 0 and deviation 1, and labels int64 (N,) from 0 of one split."""
    if split not in PLACES:
        raise ValueError(f"split is {split!r}; it must be one of {', '.join(PLACES)}")
    if VARIABLE not in os.environ:
        raise FileNotFoundError(f"${VARIABLE} is not set; set it to the folder that holds ecg")
    path = Path(__file__).parents[1] / os.environ[VARIABLE] / "ecg" / "ecg5000_train500.npz"
    with np.load(path) as arrays:
        series, labels = arrays["x"].astype(np.float32), arrays["y"].astype(np.int64) - 1
    order = np.random.default_rng(SEED).permutation(len(labels))
    turns = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        mine = order[labels[order] == label]
        turns[mine] = np.arange(len(mine)) % 10
    rows = order[np.isin(turns[order], PLACES[split])]
    series = series[rows] - series[rows].mean(axis=1, keepdims=True)
    return (series / series.std(axis=1, keepdims=True))[:, None], labels[rows]
