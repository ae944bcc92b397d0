"""Conversion of a caller's inputs to the arrays that a model takes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Union

import numpy as np

from ..errors import InputError, first_line
from .manifest import InputSpec

if TYPE_CHECKING:
    import torch

Values = Union["torch.Tensor", np.ndarray]


def check_inputs(
    inputs: Mapping[str, Values],
    names: Sequence[str],
    specs: Sequence[InputSpec],
    max_tokens: int | None = None,
) -> dict[str, np.ndarray]:
    """Check inputs and convert them to the model's dtypes.

    Args:
        inputs: Inputs by name, each (N, ...).
        names: Names of the model's inputs.
        specs: The model's inputs.
        max_tokens: Maximum number of tokens that the model takes; None if unlimited.

    Returns:
        C-contiguous arrays by name.

    Raises:
        InputError: An input is missing, unknown, or of a wrong shape or dtype, or a text is too long.
    """
    if set(inputs) != set(names):
        raise InputError(f"the model takes the inputs {', '.join(names)}; got {', '.join(inputs) or 'none'}")
    feeds: dict[str, np.ndarray] = {}
    sizes: dict[str, tuple[int, str]] = {}
    for spec in specs:
        name = spec["name"]
        feeds[name] = _convert(name, as_array(name, inputs[name]), np.dtype(spec["dtype"]))
        _check_shape(name, feeds[name].shape, ["batch", *spec["shape"]], sizes)
        if max_tokens is not None and _is_text(spec) and feeds[name].shape[1] > max_tokens:
            raise InputError(
                f"a text of {feeds[name].shape[1]} tokens came in and the model takes at most {max_tokens}; call the "
                "tokenizer, or the pipeline, with truncation=True"
            )
    return feeds


def _is_text(spec: InputSpec) -> bool:
    """Whether an input is token indices or a mask, of a free length."""
    return len(spec["shape"]) == 1 and isinstance(spec["shape"][0], str) and np.dtype(spec["dtype"]).kind in "biu"


def as_array(name: str, value: Values) -> np.ndarray:
    """Convert a tensor or sequence to an array on the CPU.

    Args:
        name: Of the input, for the message.
        value: What a caller gave.

    Raises:
        InputError: It has rows of several lengths, or is a sparse, quantized or meta tensor.
    """
    try:
        if isinstance(value, np.ndarray) or not hasattr(value, "detach"):  # without importing torch
            return np.asarray(value)
        tensor = value.detach().cpu()
        return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    except (ValueError, TypeError, RuntimeError) as error:
        reason = first_line(error).rstrip(".!")
        raise InputError(f"input '{name}' cannot be made an array: {reason}; give it as one dense array") from error


def _convert(name: str, array: np.ndarray, want: np.dtype) -> np.ndarray:
    # numbers and booleans only; fractions are not truncated
    if array.dtype.kind not in "biuf" or (array.dtype.kind == "f" and want.kind != "f"):
        raise InputError(f"input '{name}' must be of type {want}; got {array.dtype}")
    return np.ascontiguousarray(array, dtype=want)


def _check_shape(
    name: str, shape: tuple[int, ...], want: Sequence[int | str], sizes: dict[str, tuple[int, str]]
) -> None:
    wanted = ", ".join(map(str, want))
    if len(shape) != len(want) or any(isinstance(w, int) and w != got for w, got in zip(want, shape, strict=True)):
        raise InputError(f"input '{name}' must be of shape ({wanted}); got {shape}")
    for free, got in zip(want, shape, strict=True):
        size, other = sizes.setdefault(free, (got, name)) if isinstance(free, str) else (got, name)
        if size != got:
            raise InputError(f"input '{name}' has {got} for '{free}', input '{other}' has {size}; give all the same")
