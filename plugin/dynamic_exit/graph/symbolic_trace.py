"""Calls of torch.export: non-strict, without gradients and without printing."""

import contextlib
import io
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram


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
