"""Where modules and tensors are: runs work on the CPU, and take a GPU for training by themselves."""

import contextlib
import itertools
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..errors import ModelError

_CPU = torch.device("cpu")
_WITH_AMX = ("AVX512", "AMX")


def device_of(module: object) -> torch.device:
    """Return the device of a module's first parameter or buffer; the CPU for what has none, such as a session."""
    if not isinstance(module, nn.Module):
        return _CPU
    return next((tensor.device for tensor in itertools.chain(module.parameters(), module.buffers())), _CPU)


def check_on_cpu(held: object, name: str) -> None:
    """Refuse a module or a tensor that is not on the CPU.

    Args:
        held: A module, of which one parameter elsewhere is enough, or a tensor; anything else passes.
        name: Its name in the message.

    Raises:
        ModelError: It is elsewhere.
    """
    tensors: Iterator[Tensor] = iter(())
    if isinstance(held, nn.Module):
        tensors = itertools.chain(held.parameters(), held.buffers())
    elif isinstance(held, Tensor):
        tensors = iter([held])
    for tensor in tensors:
        if tensor.device.type != "cpu":
            raise ModelError(
                f"{name} is on {tensor.device}, and only training moves to a GPU, by itself; give it on the CPU, with "
                f".to('cpu')"
            )


@contextlib.contextmanager
def repeatable_on(device: torch.device) -> Iterator[None]:
    """Let a GPU add up in the same order each time within a context, so that the same seed trains the same weights.

    Args:
        device: Where the work is done; on the CPU nothing changes.
    """
    if device.type == "cpu":
        yield
        return
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    try:
        # an operator without such an order still runs: the weights then repeat up to rounding
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*deterministic.*")
            yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


def is_fast_in_bfloat16(device: torch.device) -> bool:
    """Return whether a device has matrix units for bfloat16: a GPU of compute capability 8 or more, a CPU with AMX."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    # a process may have been held to older kernels than the processor has
    return torch.backends.cpu.get_cpu_capability() in _WITH_AMX and bool(torch.cpu.get_capabilities().get("amx_bf16"))
