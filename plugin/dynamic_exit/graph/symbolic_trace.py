"""torch.export as this project uses it: non-strict, without gradients, and without printing."""

import contextlib
import io

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram


def export(module: nn.Module, inputs: tuple[Tensor, ...], argument: str, shapes: tuple) -> ExportedProgram:
    """Export a module whose ``forward`` takes ``*argument``.

    Args:
        module: In evaluation mode.
        inputs: Example tensors.
        argument: Name of the variadic argument.
        shapes: For each input, its free dimensions.

    Returns:
        The program before decomposition.

    Raises:
        Exception: Whatever torch.export raises.
    """
    # on some failures torch prints the half-made graph, thousands of lines of it; the exception says enough
    with contextlib.redirect_stderr(io.StringIO()), torch.no_grad():
        return torch.export.export(module, inputs, dynamic_shapes={argument: shapes}, strict=False)
