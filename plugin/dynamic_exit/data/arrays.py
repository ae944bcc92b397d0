"""Conversion of what users hold samples in to arrays: tensors, lists, images and columns of tables."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..core.lazy import LazyModule
from ..errors import DataError, first_line
from ..images import decode_image, to_pixels

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")


def to_array(values: object, what: str) -> np.ndarray:
    """Convert samples to an array that torch takes.

    Args:
        values: An array, a tensor on any device (sparse, quantized, or one that needs gradients), a Pillow image, a
            column or table of pandas, pyarrow or the like, or a list of any of these; all of one shape.
        what: How messages call the values, such as ``split 'train'``.

    Returns:
        The values, a Pillow image as uint8 (3, H, W); types that numpy lacks, such as bfloat16, as float32.

    Raises:
        DataError: They differ in shape, some are masked, or they cannot be converted.
    """
    try:
        array = _convert(values, what)
    except DataError:
        raise
    except Exception as error:  # tables and tensors of others may raise anything
        raise DataError(f"{what} cannot be made an array: {first_line(error)}; give it as one array") from error
    if array.dtype.byteorder not in "=|":
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype == np.longdouble:
        array = array.astype(np.float64)
    # torch takes no negative strides
    return np.ascontiguousarray(array) if min(array.strides, default=0) < 0 else array


def to_labels(labels: object, what: str) -> np.ndarray:
    """Convert labels to an array as `to_array` does; one column (N, 1) becomes (N,)."""
    array = to_array(labels, f"the labels of {what}")
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _convert(values: Any, what: str) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        return _from_tensor(values, what)
    if isinstance(values, Image.Image):
        try:
            return to_pixels(decode_image(values))
        except DataError as error:
            raise DataError(f"{what} has an image that cannot be read: {error}") from error
    if isinstance(values, Sequence) and not isinstance(values, str | bytes) and not hasattr(values, "__array__"):
        return _from_list(values if isinstance(values, list | tuple) else list(values), what)
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise DataError(
            f"{what} has {np.ma.count_masked(values)} masked values; fill them in, or leave the samples out"
        )
    array = np.asarray(values)
    if array.dtype == object and array.ndim == 1 and len(array) and not _is_scalar(array[0]):
        return _from_list(list(array), what)  # rows that are arrays themselves, as in tables
    return array


def _from_tensor(tensor: "torch.Tensor", what: str) -> np.ndarray:
    if tensor.is_nested:
        return _from_list(list(tensor.unbind()), what)
    tensor = tensor.detach()
    tensor = tensor.dequantize() if tensor.is_quantized else tensor
    tensor = tensor.to_dense() if tensor.layout != torch.strided else tensor
    if tensor.is_floating_point() and tensor.dtype not in (torch.float16, torch.float32, torch.float64):
        tensor = tensor.float()
    return tensor.cpu().resolve_conj().resolve_neg().numpy()


def _from_list(rows: Sequence[Any], what: str) -> np.ndarray:
    first: Any = rows
    while isinstance(first, list | tuple) and first:
        first = first[0]
    if _is_scalar(first) or (isinstance(first, list | tuple) and not first):
        return _from_plain_list(rows, what)
    arrays = [_convert(row, what) for row in rows]
    odd = next((i for i, array in enumerate(arrays) if array.shape != arrays[0].shape), None)
    if odd is not None:
        raise DataError(
            f"{what} holds samples of different shapes, {list(arrays[0].shape)} and, in sample {odd}, "
            f"{list(arrays[odd].shape)}; give all one shape"
        )
    return np.stack(arrays)


def _from_plain_list(rows: Sequence[Any], what: str) -> np.ndarray:
    try:
        array = np.asarray(rows)
    except ValueError as error:
        lengths = [len(row) if isinstance(row, list | tuple) else 1 for row in rows]
        odd = next((i for i, length in enumerate(lengths) if length != lengths[0]), None)
        if odd is None:
            raise
        raise DataError(
            f"{what} holds samples of different lengths, {lengths[0]} and, in sample {odd}, {lengths[odd]}; give all "
            "one length"
        ) from error
    # numpy turns numbers among texts into texts
    return array if array.dtype.kind not in "US" or array.ndim != 1 else _keep_types(array, rows)


def _keep_types(array: np.ndarray, rows: Sequence[Any]) -> np.ndarray:
    return array if len({type(row) for row in rows}) == 1 else np.asarray(rows, dtype=object)


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | bytes | bool | int | float | complex | np.generic)
