"""CIFAR-10: `train` (50,000 images, in lossless WebP sheets) and `dev` (5,000 held out), from $DYNAMIC_EXIT_DATA."""

import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

VARIABLE = "DYNAMIC_EXIT_DATA"
SIDE = 32
FILES = {"train": "train_webp.npz", "dev": "dev.npz"}


def folder() -> Path:
    """Where the images lie; a relative path counts from the recipe, as paths in it do."""
    if VARIABLE not in os.environ:
        raise FileNotFoundError(f"${VARIABLE} is not set; set it to the folder that holds cifar10")
    return Path(__file__).parents[1] / os.environ[VARIABLE] / "cifar10"


def load(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs uint8 (N, 3, 32, 32) with pixels 0..255 and labels int64 (N,) of one split."""
    if split not in FILES:
        raise ValueError(f"split is {split!r}; it must be one of {', '.join(FILES)}")
    with np.load(folder() / FILES[split]) as arrays:
        images = arrays["images"] if split == "dev" else _sheets(arrays["webp"], arrays["offset"])
        labels = arrays["labels"]
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), labels[: len(images)].astype(np.int64)


def _sheets(pictures: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """All images (N, 32, 32, 3) of sheets that lie one behind the other in a row of bytes."""

    def read(index: int) -> np.ndarray:
        sheet = np.asarray(Image.open(io.BytesIO(pictures[offsets[index] : offsets[index + 1]])).convert("RGB"))
        high, wide = (size // SIDE for size in sheet.shape[:2])
        return sheet.reshape(high, SIDE, wide, SIDE, 3).swapaxes(1, 2).reshape(-1, SIDE, SIDE, 3)

    # Pillow decodes outside Python's lock
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        return np.concatenate(list(workers.map(read, range(len(offsets) - 1))))
