"""Calls of torch.export: non-strict, without gradients and without printing."""

import contextlib
import io
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

#: Above it a batch norm on a GPU takes another kernel, which torch.export holds for another program.
_LARGEST_BATCH_ON_GPU = 65535


def batch_dim(inputs: Sequence[Tensor]) -> Dim:
    """Return the free batch size of a program with such example tensors, from 1 row on."""
    if any(tensor.is_cuda for tensor in inputs):
        return Dim("batch", min=1, max=_LARGEST_BATCH_ON_GPU)
    return Dim("batch", min=1)


def export(
    module: nn.Module, inputs: tuple[Tensor, ...], argument: str, shapes: Sequence[dict[int, object]]
) -> ExportedProgram:
    """Export a module whose ``forward`` takes ``*argument``.

    Args:
        module: In evaluation mode.
        inputs: Example tensors.
        argument: Name of the variadic argument.
        shapes: Free dimensions of each input: index -> ``Dim`` or ``Dim.AUTO``.

    Returns:
        The program before decomposition.

    Raises:
        Exception: Whatever torch.export raises.
    """
    # on some failures torch prints the unfinished graph, thousands of lines; the exception says enough
    with contextlib.redirect_stderr(io.StringIO()), torch.no_grad():
        return torch.export.export(module, inputs, dynamic_shapes={argument: tuple(shapes)}, strict=False)
