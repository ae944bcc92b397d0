"""Pillow images as pixels of 8 bits, upright: alike where samples are read and where they are served."""

from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, ImageOps

from ...errors import DataError

# 16 bits, of which TIFF may use 12 alone
_WIDE, _TWELVE_BITS = 65535, 4095
_BITS_PER_SAMPLE = 258
# what Pillow stores in 32 bits though the file holds 16
_WIDE_FORMATS = ("PNG", "PPM")


@dataclass(frozen=True)
class Picture:
    """An image as it is classified.

    Attributes:
        image: Upright, in a mode of 8 bits or of less.
        turned: Whether its EXIF data told to turn or mirror it.
        narrowed: Whether it had more than 8 bits.
    """

    image: Image.Image
    turned: bool
    narrowed: bool


def upright(image: Image.Image) -> Picture:
    """Turn an image as its EXIF data say, as transformers does, and scale grey of 16 bits to 8.

    Pillow itself only cuts such grey off above 255.

    Args:
        image: As Pillow opens it.

    Returns:
        The image; `convert` brings it into the wanted channels.

    Raises:
        DataError: It holds numbers of 32 bits, whose range nobody knows.
    """
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    largest = _largest(image)  # before pixels are loaded: Pillow may forget the file's format when it turns them
    image = ImageOps.exif_transpose(image)
    if largest is not None:
        grey = np.asarray(image).astype(np.int64).clip(0, largest)
        image = Image.fromarray(((grey * 255 + largest // 2) // largest).astype(np.uint8))
    return Picture(image, orientation in range(2, 9), largest is not None)


def _largest(image: Image.Image) -> int | None:
    """Return the value that stands for white in an image of more than 8 bits, else None."""
    if image.mode.startswith("I;16"):
        bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE)
        return _TWELVE_BITS if bits == (12,) else _WIDE
    if image.mode == "I" and image.format in _WIDE_FORMATS:
        return _WIDE
    if image.mode in ("I", "F"):
        kind = "whole numbers" if image.mode == "I" else "floating point numbers"
        raise DataError(f"its pixels are {kind} of 32 bits, whose range is not known; save it with 8 or 16 bits")
    return None


def rgb_pixels(picture: Picture) -> np.ndarray:
    """Return an image's colours, uint8 (3, H, W); alpha is left out, as Pillow's `convert` does."""
    return np.asarray(picture.image.convert("RGB")).transpose(2, 0, 1)
