"""Decoding of Pillow images, the same for reading samples and for serving: upright, with 8 bits, of one size."""

from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, ImageOps

from ..errors import DataError
from .format import ImageFormat

# white in 16 bits, and in TIFF's 12
_WIDE, _TWELVE_BITS = 65535, 4095
_BITS_PER_SAMPLE = 258
# formats of 16 bits that Pillow decodes to 32
_WIDE_FORMATS = ("PNG", "PPM")
# Pillow's modes by number of channels
_MODES = {1: "L", 3: "RGB"}
_COLOR = ImageFormat()


@dataclass(frozen=True)
class DecodedImage:
    """An image as models receive it.

    Attributes:
        image: Upright, in a mode of at most 8 bits.
        rotated: Whether its EXIF orientation was applied.
        rescaled: Whether it had more than 8 bits.
    """

    image: Image.Image
    rotated: bool
    rescaled: bool


def decode_image(image: Image.Image) -> DecodedImage:
    """Apply the EXIF orientation, as transformers does, and scale grayscale of 16 bits to 8.

    Pillow itself clips such images at 255.

    Args:
        image: As Pillow opens it.

    Returns:
        The image; `convert` brings it into the channels that are needed.

    Raises:
        DataError: Its pixels have 32 bits, whose range is unknown, or colors of CIE Lab, which Pillow does not convert.
    """
    if image.mode == "LAB":
        raise DataError("its colors are those of CIE Lab; save it as RGB")
    white = _find_white(image)  # before pixels are loaded: Pillow drops the file's format when it rotates them
    rotated = _is_turned(image)
    image.load()  # the caller may close its file; Pillow turns TIFF files here
    if _is_turned(image):
        image = ImageOps.exif_transpose(image)  # which copies any other image
    if white is not None:
        gray = np.asarray(image).astype(np.int64).clip(0, white)
        image = Image.fromarray(((gray * 255 + white // 2) // white).astype(np.uint8))
    return DecodedImage(image, rotated, white is not None)


def _is_turned(image: Image.Image) -> bool:
    return image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)


def _find_white(image: Image.Image) -> int | None:
    """Return the value of white in an image of more than 8 bits, else None."""
    if image.mode.startswith("I;16"):
        bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE)
        return _TWELVE_BITS if bits == (12,) else _WIDE
    if image.mode == "I" and image.format in _WIDE_FORMATS:
        return _WIDE
    if image.mode in ("I", "F"):
        kind = "whole numbers" if image.mode == "I" else "floating point numbers"
        raise DataError(f"its pixels are {kind} of 32 bits, whose range is not known; save it with 8 or 16 bits")
    return None


def to_pixels(image: DecodedImage, form: ImageFormat = _COLOR) -> np.ndarray:
    """Return an image as uint8 (C, H, W), without its alpha channel."""
    mode = _MODES[form.channels]
    converted = image.image if image.image.mode == mode else image.image.convert(mode)
    if form.resizing is not None:
        converted = form.resizing(converted)
    pixels = np.asarray(converted)
    return pixels[None] if form.channels == 1 else pixels.transpose(2, 0, 1)
