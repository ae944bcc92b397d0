"""The form in which a model takes images: channels, and how images of any size become images of one size."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from PIL import Image

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


@dataclass(frozen=True)
class Resizing:
    """How images of any size become images of one size: resized, then cut out of the middle.

    Attributes:
        size: ``(height, width)`` in the end, in pixels.
        resized: ``(height, width)`` before anything is cut off, or the length of the shorter side.
        interpolation: ``bilinear``, ``bicubic`` or ``nearest``; but for the last, shrinking averages over pixels.
    """

    size: tuple[int, int]
    resized: tuple[int, int] | int
    interpolation: str = "bilinear"

    def __call__(self, image: Image.Image) -> Image.Image:
        """Resize a Pillow image."""
        if isinstance(self.resized, int):
            scale = self.resized / min(image.size)
            width, height = (max(self.resized, round(side * scale)) for side in image.size)
        else:
            height, width = self.resized
        image = image.resize((width, height), _RESAMPLING[self.interpolation])
        left, top = round((width - self.size[1]) / 2), round((height - self.size[0]) / 2)
        return image.crop((left, top, left + self.size[1], top + self.size[0]))

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return what `to_json` took."""
        resized, (height, width) = values["resized"], values["size"]
        both = resized if isinstance(resized, int) else (resized[0], resized[1])
        return cls((height, width), both, values["interpolation"])

    def __str__(self) -> str:
        """Describe it for a note."""
        if self.resized == self.size:
            return f"resized to {self.size}"
        shown = f"a shorter side of {self.resized}" if isinstance(self.resized, int) else f"{self.resized}"
        return f"resized to {shown}, and {self.size} are cut out of the middle"


@dataclass(frozen=True)
class ImageFormat:
    """The form in which a model takes images.

    Attributes:
        channels: 1 or 3.
        resizing: How images of other sizes are resized; None if all have one size.
    """

    channels: int = 3
    resizing: Resizing | None = None
