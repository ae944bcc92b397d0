"""Faster archived parts: compiled by torch's inductor, or with constants folded."""

from typing import cast

import torch
from torch import Tensor, fx

from ..cost.latency import using_threads
from ..errors import ModelError, first_line
from .archive import ArchivedPart
from .inductor import inductor_options


def fold_constants(part: ArchivedPart) -> ArchivedPart:
    """Compute once what depends on weights alone, such as float weights from 8-bit ones; outputs stay the same.

    Args:
        part: As `unpack` returns it; changed in place.

    Returns:
        The same part.
    """
    from torchao.quantization.pt2e.constant_fold import constant_fold

    constant_fold(part.body)
    return part


# inductor specializes convolutions for 16 rows and more, for fewer, and for a single one
_ROWS = (32, 3, 1)


class CompiledPart(ArchivedPart):
    """A part whose ``forward`` is compiled for any number of rows."""

    def __init__(self, part: ArchivedPart):
        super().__init__(part.body, getattr(part, "input_names", None))
        self.width, self.example = part.width, part.example

    def forward(self, *tensors: Tensor) -> Tensor:
        """Run the part: positional tensors in, one tensor out."""
        # gathered rows, and the outputs of convolutions, have another memory layout than the example
        return self.body(*(tensor.contiguous() for tensor in tensors))


def compile_part(part: ArchivedPart, name: str, threads: int | None = None) -> CompiledPart:
    """Compile a part with inductor for any number of rows.

    Quantized parts run in 8-bit kernels, or in compiled float loops if inductor has no kernel for their shapes (images
    of one channel in torch 2.15).

    Args:
        part: As `unpack` returns it; its body is compiled in place.
        name: For messages.
        threads: Threads within an operator; None keeps torch's number.

    Returns:
        The compiled part.

    Raises:
        ModelError: It cannot be compiled, for example because there is no C++ compiler.
    """
    compiled = CompiledPart(part)
    try:
        try:
            _compile(compiled, threads, frozen=True)
        except Exception:  # torch raises dozens of types
            _compile(compiled, threads, frozen=False)
    except Exception as error:
        reason, advice = _explain(error)
        raise ModelError(f"stage '{name}' cannot be compiled: {reason}; {advice}load it with compile=False") from error
    return compiled


def _explain(error: BaseException) -> tuple[str, str]:
    """Return why inductor failed, and what else than not to compile may help (empty if nothing).

    Args:
        error: What a compiled module raised.
    """
    from torch._inductor.exc import CppCompileError, InvalidCxxCompiler

    while isinstance(inner := getattr(error, "inner_exception", None), BaseException):
        error = inner  # torch wraps what its backends raise
    if isinstance(error, InvalidCxxCompiler):
        return "torch finds no C++ compiler", "install g++ or clang++, or "
    if not isinstance(error, CppCompileError):
        return first_line(error), ""
    complaints = [line.partition("error: ")[2] for line in error.output.splitlines() if "error: " in line]
    complaint = f"the C++ compiler refuses torch's code ({complaints[0] if complaints else first_line(error)})"
    if torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        return f"{complaint}, and this processor lacks the vector instructions that torch writes it for", ""
    return complaint, "install a newer compiler, or "


def _compile(part: CompiledPart, threads: int | None, frozen: bool) -> None:
    from torch._inductor import config

    body = cast(fx.GraphModule, part.body)
    body.recompile()  # new code, so that torch does not reuse what it compiled of the old one
    # weights are frozen, and 8-bit kernels found, only if this is set around the calls
    with config.patch(freezing=frozen), torch.no_grad(), using_threads(threads):
        body.compile(dynamic=True, options=inductor_options())
        for rows in _ROWS:
            part(*(_repeat(tensor, rows) for tensor in part.example))


def _repeat(tensor: Tensor, rows: int) -> Tensor:
    """Return the first row of a tensor, repeated."""
    return tensor[:1].repeat(rows, *[1] * (tensor.dim() - 1))
