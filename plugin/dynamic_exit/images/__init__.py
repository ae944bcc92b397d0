"""Image files: read upright with 8 bits, in the form that a model takes, and decoded once where they are many."""

from typing import TYPE_CHECKING

from ..core.lazy import lazy_exports

if TYPE_CHECKING:
    from .decoder import FindFormat, ImageDecoder, ImageReading
    from .files import ImageFile, is_image_name, read_image
    from .format import ImageFormat, Resizing
    from .pixels import DecodedImage, decode_image, to_pixels

__all__ = [
    "DecodedImage",
    "FindFormat",
    "ImageDecoder",
    "ImageFile",
    "ImageFormat",
    "ImageReading",
    "Resizing",
    "decode_image",
    "is_image_name",
    "read_image",
    "to_pixels",
]

# on first use: the decoder brings torch
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "decoder": ("FindFormat", "ImageDecoder", "ImageReading"),
        "files": ("ImageFile", "is_image_name", "read_image"),
        "format": ("ImageFormat", "Resizing"),
        "pixels": ("DecodedImage", "decode_image", "to_pixels"),
    },
)
