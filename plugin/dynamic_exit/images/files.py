"""Image files, on their own or inside an archive."""

import functools
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image

from ..errors import DataError, first_line, pointer_hint
from .pixels import DecodedImage, decode_image


@dataclass(frozen=True)
class ImageFile:
    """An image in a file, or in a part of one.

    Attributes:
        path: The file.
        member: Name of the part, for messages; empty for a whole file.
        start: Where the part begins.
        length: Of the part in bytes.
    """

    path: Path
    member: str = ""
    start: int = 0
    length: int | None = None

    def read_part(self) -> bytes:
        """Return the bytes of the part."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            return file.read(self.length or 0)

    def __str__(self) -> str:
        """Name the file in messages."""
        return f"{self.path}/{self.member}" if self.member else str(self.path)


def is_image_name(name: str) -> bool:
    """Whether a file may be an image: it is not hidden, and its ending is that of a format that is read, or missing."""
    ending = Path(name).suffix.lower()
    return not name.startswith(".") and (not ending or ending in _endings())


@functools.cache
def _endings() -> frozenset[str]:
    return frozenset(ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN)


def _open(file: ImageFile | Path) -> Image.Image:
    if isinstance(file, Path):
        return Image.open(file)
    return Image.open(file.path if file.length is None else io.BytesIO(file.read_part()))


def read_image(file: ImageFile | Path) -> DecodedImage:
    """Read an image, turned upright and with at most 8 bits.

    Raises:
        DataError: It cannot be read, or the range of its pixels is unknown.
    """
    try:
        with _open(file) as image:
            return decode_image(image)
    except Exception as error:  # Pillow's readers raise various errors on files of other formats
        raise _unreadable(file, error) from error


def read_size(file: ImageFile, upright: bool) -> tuple[int, int]:
    """Read the height and width of an image.

    Args:
        file: The image.
        upright: Whether its EXIF orientation counts, for which some formats read all pixels.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with _open(file) as image:
            lies = upright and image.getexif().get(ExifTags.Base.Orientation, 1) in range(5, 9)
            return (image.width, image.height) if lies else (image.height, image.width)
    except Exception as error:  # as above
        raise _unreadable(file, error) from error


def _unreadable(file: ImageFile | Path, error: Exception) -> DataError:
    reason = "it is no image" if "<_io." in str(error) else first_line(error)  # Pillow would name the buffer
    if isinstance(file, Path) or not file.member:
        reason = pointer_hint(file if isinstance(file, Path) else file.path) or reason
    return DataError(f"image '{file}' cannot be read: {reason}")


def file_stamps(files: Iterable[ImageFile]) -> list[list[str]]:
    """Return what tells files from others, and from themselves after a change: names, sizes and times."""
    stats = {path: path.stat() for path in dict.fromkeys(file.path for file in files) if path.exists()}
    times = {path: f" {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats.items()}
    return [[str(file), f"{file.start} {file.length}{times.get(file.path, '')}"] for file in files]
