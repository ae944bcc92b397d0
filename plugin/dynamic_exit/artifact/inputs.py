"""What callers hand in, as onnxruntime takes it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from ..errors import ExportError

if TYPE_CHECKING:
    import torch

Values = Union["torch.Tensor", np.ndarray]


def check_inputs(
    inputs: Mapping[str, Values],
    names: Sequence[str],
    specs: Sequence[Mapping[str, Any]],
    max_tokens: int | None = None,
) -> dict[str, np.ndarray]:
    """Bring inputs into the model's types, or refuse them.

    Args:
        inputs: By name, each (N, ...).
        names: Those that the model has.
        specs: For each of them ``name``, ``dtype`` and ``shape`` without batch; a free dimension is its name.
        max_tokens: The most tokens of a text that the model takes; None: any number.

    Returns:
        Arrays by name, C-contiguous.

    Raises:
        ExportError: An input is missing, unknown, or of a wrong shape or type, or a text is too long.
    """
    if set(inputs) != set(names):
        raise ExportError(f"the model takes the inputs {', '.join(names)}; got {', '.join(inputs) or 'none'}")
    feeds: dict[str, np.ndarray] = {}
    sizes: dict[str, tuple[int, str]] = {}
    for spec in specs:
        name = spec["name"]
        feeds[name] = _typed(name, as_array(inputs[name]), np.dtype(spec["dtype"]))
        _fit(name, feeds[name].shape, ["batch", *spec["shape"]], sizes)
        if max_tokens is not None and _is_text(spec) and feeds[name].shape[1] > max_tokens:
            raise ExportError(
                f"a text of {feeds[name].shape[1]} tokens came in and the model takes at most {max_tokens}; call the "
                "tokenizer, or the pipeline, with truncation=True"
            )
    return feeds


def _is_text(spec: Mapping[str, Any]) -> bool:
    """Whether an input is token indices, or a mask, of a free length."""
    return len(spec["shape"]) == 1 and isinstance(spec["shape"][0], str) and np.dtype(spec["dtype"]).kind in "biu"


def as_array(value: Values) -> np.ndarray:
    """Return a tensor's or sequence's numbers as an array on the CPU."""
    if not hasattr(value, "detach"):  # torch is not asked: a runner works without it
        return np.asarray(value)
    value = value.detach().cpu()
    return (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()


def _typed(name: str, array: np.ndarray, want: np.dtype) -> np.ndarray:
    # numbers and truth values alone; fractions are not cut off
    if array.dtype.kind not in "biuf" or (array.dtype.kind == "f" and want.kind != "f"):
        raise ExportError(f"input '{name}' must be of type {want}; got {array.dtype}")
    return np.ascontiguousarray(array, dtype=want)


def _fit(name: str, shape: tuple[int, ...], want: Sequence[int | str], sizes: dict[str, tuple[int, str]]) -> None:
    wanted = ", ".join(map(str, want))
    if len(shape) != len(want) or any(isinstance(w, int) and w != got for w, got in zip(want, shape, strict=True)):
        raise ExportError(f"input '{name}' must be of shape ({wanted}); got {shape}")
    for free, got in zip(want, shape, strict=True):
        size, other = sizes.setdefault(free, (got, name)) if isinstance(free, str) else (got, name)
        if size != got:
            raise ExportError(f"input '{name}' has {got} for '{free}', input '{other}' has {size}; give all the same")
