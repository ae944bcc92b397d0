"""Archived parts made fast: by torch's inductor, or by working out once what depends on weights alone."""

import torch
from torch import Tensor

from ..cost.latency import using_threads
from ..errors import ModelError, first_line
from .archive import ArchivedPart


def fold_constants(part: ArchivedPart) -> ArchivedPart:
    """Work out once, in place, what depends on weights alone, such as numbers from 8-bit weights; answers stay.

    Args:
        part: As `unpack` gives it.
    """
    from torchao.quantization.pt2e.constant_fold import constant_fold

    constant_fold(part.body)
    return part


# convolutions are compiled for 16 rows and more, for less, and for a single one
_ROWS = (32, 3, 1)


class CompiledPart(ArchivedPart):
    """A compiled part. Gathered rows, and those of a convolution, lie otherwise in memory than the example."""

    def forward(self, *tensors: Tensor) -> Tensor:
        """Run the part: positional tensors in, one tensor out."""
        return self.body(*(tensor.contiguous() for tensor in tensors))


def compile_part(part: ArchivedPart, name: str, threads: int | None = None) -> CompiledPart:
    """Compile a part with inductor, for any number of rows.

    What is quantized runs in 8-bit kernels, but where inductor has none that fits (images of one channel, in torch
    2.15) in compiled float loops.

    Args:
        part: As `unpack` gives it.
        name: For messages.
        threads: Threads within an operator; None: as torch has them now.

    Raises:
        ModelError: It cannot be compiled, for example for want of a C++ compiler.
    """
    part.__class__ = CompiledPart
    try:
        try:
            _compile(part, threads, frozen=True)
        except Exception:  # torch raises dozens of types
            _compile(part, threads, frozen=False)
    except Exception as error:
        said = "install a C++ compiler that torch finds, or load it with compile=False"
        raise ModelError(f"stage '{name}' cannot be compiled: {first_line(error)}; {said}") from error
    return part


def _compile(part: CompiledPart, threads: int | None, frozen: bool) -> None:
    from torch._inductor import config

    part.body.recompile()  # new code: what torch has compiled of the old one is not taken
    # weights are only frozen, and 8-bit kernels only found, if torch is told so in all that it does
    with config.patch(freezing=frozen), torch.no_grad(), using_threads(threads):
        part.body.compile(dynamic=True)
        for rows in _ROWS:
            part(*(tensor[:1].repeat(rows, *[1] * (tensor.dim() - 1)) for tensor in part.example))
