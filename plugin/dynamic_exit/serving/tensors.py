"""Tensors of the Open Inference Protocol: their types, and arrays from JSON and from bytes."""

import math
from itertools import chain
from typing import Any

import numpy as np

from .refusals import bad_request

#: Name of a type in the protocol -> NumPy's; bytes are little-endian.
DTYPES = {
    "BOOL": np.dtype("?"),
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
}
# kind of a type of NumPy -> what JSON may hold for it; whole numbers for others
_JSON_TYPES: dict[str, set[type]] = {"b": {bool}, "f": {int, float}}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def datatype_of(dtype: str | np.dtype) -> str:
    """Return the protocol's name of a type of NumPy."""
    return _NAMES[np.dtype(dtype)]


def _dtype_of(name: str, datatype: str) -> np.dtype:
    if datatype not in DTYPES:
        raise bad_request(f"input '{name}' is of the datatype '{datatype}'; known are {', '.join(DTYPES)}")
    return DTYPES[datatype]


def from_bytes(name: str, datatype: str, shape: list[int], content: memoryview) -> np.ndarray:
    """Return a tensor of binary data; it shares the memory of the request.

    Args:
        name: Of the tensor, for messages.
        datatype: The protocol's name of its type.
        shape: Its shape.
        content: Its bytes.

    Raises:
        RequestError: The type is unknown, or its bytes do not fill the shape.
    """
    dtype = _dtype_of(name, datatype)
    if (size := math.prod(shape) * dtype.itemsize) != len(content):
        raise bad_request(f"input '{name}' of shape {shape} as {datatype} takes {size} bytes; got {len(content)}")
    if dtype.kind == "b" and len(content) and np.frombuffer(content, np.uint8).max() > 1:
        raise bad_request(f"input '{name}' of datatype BOOL has bytes other than 0 and 1")
    return np.frombuffer(content, dtype).reshape(shape)


def from_json(name: str, datatype: str, shape: list[int], data: Any) -> np.ndarray:
    """Return a tensor of JSON: numbers in a row, or in lists within lists as the shape says.

    Args:
        name: Of the tensor, for messages.
        datatype: The protocol's name of its type.
        shape: Its shape.
        data: As JSON has it.

    Raises:
        RequestError: The type is unknown; or there are more or fewer numbers than the shape has, or values that the
            type does not hold.
    """
    dtype = _dtype_of(name, datatype)
    values = _flatten(name, shape, data)
    if math.prod(shape) != len(values):
        raise bad_request(f"input '{name}' of shape {shape} takes {math.prod(shape)} numbers; got {len(values)}")
    # by type: NumPy itself would read text as numbers and cut off fractions
    allowed = _JSON_TYPES.get(dtype.kind, {int})
    if odd := set(map(type, values)) - allowed:
        got = {bool: "true or false", int: "whole numbers", float: "fractions"}.get(odd.pop(), "what is no number")
        raise bad_request(f"input '{name}' of datatype {datatype} has {got} in its data")
    try:
        with np.errstate(over="ignore"):
            array = np.array(values, dtype).reshape(shape)
    except OverflowError:
        array = None
    if array is None or (dtype.kind == "f" and not np.isfinite(array).all()):
        raise bad_request(f"input '{name}' has numbers that do not fit the datatype {datatype}")
    return array


def _flatten(name: str, shape: list[int], data: Any) -> list[Any]:
    """Return the values of lists within lists in a row; those in a row already are left alone."""
    if not isinstance(data, list):
        raise bad_request(f"input '{name}' has no list as its data; give one, or binary data with its size")
    if not data or not isinstance(data[0], list):
        return data
    if len(data) != shape[0]:
        raise bad_request(f"input '{name}' of shape {shape} has lists of other lengths in its data")
    for size in shape[1:]:
        if set(map(type, data)) != {list} or set(map(len, data)) != {size}:
            raise bad_request(f"input '{name}' of shape {shape} has lists of other lengths in its data")
        data = list(chain.from_iterable(data))
    return data
