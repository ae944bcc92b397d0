"""The digits that scikit-learn bundles (1797 images of 8 x 8 pixels), split once and for all."""

import functools

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

CLASSES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SIZES = {"train": 900, "calibration": 450, "test": 447}
SEED = 2024


@functools.cache
def _indices() -> dict[str, np.ndarray]:
    # every image of the set is unique, so splitting by index leaves no copy of one in two splits
    labels = load_digits().target
    train, rest = train_test_split(
        np.arange(len(labels)), train_size=SIZES["train"], random_state=SEED, stratify=labels
    )
    calibration, test = train_test_split(
        rest, train_size=SIZES["calibration"], random_state=SEED, stratify=labels[rest]
    )
    return {"train": train, "calibration": calibration, "test": test}


def load(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs float32 (N, 1, 8, 8) with raw pixel values 0..16 and labels int64 (N,) of one split."""
    if split not in SIZES:
        raise ValueError(f"split is {split!r}; it must be one of {', '.join(SIZES)}")
    digits = load_digits()
    rows = _indices()[split]
    return digits.images[rows, None].astype(np.float32), digits.target[rows].astype(np.int64)
