"""What test samples look like in the report: pictures, texts and curves."""

import base64
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np

from ..core.atomic_write import atomic_write
from ..errors import ExportError
from ..trust.json_file import read_json
from .figures import ExampleFigures

EXAMPLES_FILE = "examples.json"
TYPE, VERSION = "dynamic_exit.examples", 1
# pixels of the longer side, characters, points of a curve, and curves of a sample, at most
_SIDE, _CHARACTERS, _POINTS, _CURVES = 160, 280, 160, 3
# a picture of no more pixels than this is kept without loss
_SMALL_SIDE = 64


class Shown(TypedDict, total=False):
    """One of: a picture as a data URL, a text, or curves, whose values are scaled to 0..1 together."""

    picture: str
    text: str
    curves: list[list[float]]


def show_samples(
    inputs: Mapping[str, np.ndarray],
    examples: Iterable[ExampleFigures],
    decode: Callable[[np.ndarray], str] | None = None,
) -> dict[int, Shown]:
    """Return what samples look like, by row; without those whose inputs are neither pictures, texts nor curves.

    Args:
        inputs: Arrays (N, ...) by name; the first one that can be shown is.
        examples: Which samples.
        decode: Turns the token indices of one sample, int64 (L,), into text; None if they are no text.
    """
    rows = dict.fromkeys(each.sample for each in examples)
    shown = {row: _show([np.asarray(array[row]) for array in inputs.values()], decode) for row in rows}
    return {row: each for row, each in shown.items() if each}


def _show(arrays: list[np.ndarray], decode: Callable[[np.ndarray], str] | None) -> Shown:
    if decode is not None:
        text = " ".join(decode(arrays[0]).split())
        return {"text": text if len(text) <= _CHARACTERS else text[: _CHARACTERS - 1] + "…"}
    for array in arrays:
        if array.ndim == 3 and 1 in (array.shape[0], array.shape[-1]) or array.ndim == 3 and 3 in array.shape[::2]:
            return {"picture": _picture(array)}
        if array.ndim in (1, 2) and array.dtype.kind == "f" and array.shape[-1] > 3:
            return {"curves": _curves(np.atleast_2d(array))}
    return {}


def _picture(array: np.ndarray) -> str:
    """Return a picture, (C, H, W) or (H, W, C) of 1 or 3 channels, as a data URL."""
    from PIL import Image

    channels_last = array if array.shape[0] not in (1, 3) else np.moveaxis(array, 0, -1)
    if channels_last.dtype != np.uint8:  # normalised pixels have no known range
        values = np.nan_to_num(channels_last.astype(np.float64))
        low, span = values.min(), np.ptp(values)
        channels_last = ((values - low) / (span or 1.0) * 255).round().astype(np.uint8)
    image = Image.fromarray(channels_last[..., 0] if channels_last.shape[-1] == 1 else channels_last)
    kind = "png" if max(image.size) <= _SMALL_SIDE else "jpeg"
    image.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    image.save(file, kind, quality=80)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _curves(array: np.ndarray) -> list[list[float]]:
    """Return the first channels of a series (C, L), thinned out."""
    values = np.nan_to_num(array[:_CURVES].astype(np.float64))
    if values.shape[1] > _POINTS:
        values = values[:, np.linspace(0, values.shape[1] - 1, _POINTS).astype(int)]
    low, span = values.min(), np.ptp(values)
    scaled: list[list[float]] = ((values - low) / (span or 1.0)).round(3).tolist()
    return scaled


def write_examples(path: str | os.PathLike[str], shown: Mapping[int, Shown]) -> None:
    """Write what samples look like, whole or not at all."""
    content = {"_type": TYPE, "_version": VERSION, "samples": {str(row): each for row, each in shown.items()}}
    with atomic_write(path) as file:
        file.write((json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def read_examples(path: str | os.PathLike[str]) -> dict[int, Shown]:
    """Return what `write_examples` took; nothing if there is no such file.

    Raises:
        ExportError: The file breaks the format.
    """
    if not Path(path).is_file():
        return {}
    try:
        content: Any = read_json(path)
        if content["_type"] != TYPE or content["_version"] != VERSION:
            raise ValueError("another type or version")
        return {int(row): cast(Shown, each) for row, each in content["samples"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ExportError(f"'{path}' holds no examples; remove it, or export the folder anew") from error
