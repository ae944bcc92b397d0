"""One recipe on several processes, which a launcher such as `torchrun` started: who does what, and collectives.

Every process runs the same code on its shard of the rows. What is decided or written, the main process decides or
writes, and the others receive the outcome. Without a launcher, or outside of `processes`, there is one process and the
functions here simply call what they are given.
"""

import atexit
import contextlib
import datetime
import functools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar, cast

import numpy as np

from .. import errors
from ..errors import DynamicExitError
from .file_archive import array_from_bytes, array_to_bytes, pack_files, unpack_files
from .launcher import is_distributed
from .lazy import LazyModule

if TYPE_CHECKING:
    import torch
    from accelerate import PartialState
    from torch import Tensor
else:
    torch = LazyModule("torch")  # one process alone needs nothing of it

Result = TypeVar("Result")

# the main process may work alone for long while the others wait
_TIMEOUT = datetime.timedelta(days=7)
_SUCCESS, _FAILURE = b"\0", b"\1"
# how deep in `processes`, and in `single_process`
_processes_depth = _single_process_depth = 0


@contextlib.contextmanager
def processes() -> Iterator[None]:
    """Work together with the other processes of the launcher, all of which must enter this context."""
    global _processes_depth
    _processes_depth += 1
    try:
        yield
    finally:
        _processes_depth -= 1


@contextlib.contextmanager
def single_process() -> Iterator[None]:
    """Let this process work as if it were the only one."""
    global _single_process_depth
    _single_process_depth += 1
    try:
        yield
    finally:
        _single_process_depth -= 1


def world_size() -> int:
    """Return the number of processes that work together."""
    return int(_state().num_processes) if _is_joined() else 1


def rank() -> int:
    """Return the number of this process, in 0..world_size - 1."""
    return int(_state().process_index) if _is_joined() else 0


def is_main_process() -> bool:
    """Whether this process decides and writes."""
    return rank() == 0


def workers(threads: int = 1) -> int:
    """Return how many workers of this process keep all cores busy if each of them uses `threads` cores."""
    return max(1, (os.cpu_count() or 1) // (threads * world_size()))


def device() -> "torch.device":
    """Return the device on which this process trains: a GPU of its own if there is one."""
    if _is_joined() and _state().device.type != "cpu":
        return torch.device(_state().device)
    return torch.device("cuda" if torch.cuda.is_available() and not _is_joined() else "cpu")


def shard(samples: int, block_size: int = 1) -> range:
    """Return the rows of this process; the shards of all processes, in order of rank, are all rows.

    Args:
        samples: Number of rows N.
        block_size: Rows that stay together from row 0 on, such as a batch whose size decides the last bits.

    Returns:
        Rows; perhaps none, except that the main process has some if there are any.
    """
    blocks = -(-samples // block_size)
    first, last = (min(samples, -(-blocks * index // world_size()) * block_size) for index in (rank(), rank() + 1))
    return range(first, last)


def run_on_main(
    function: Callable[[], Result],
    to_bytes: Callable[[Result], bytes] = lambda result: json.dumps(result).encode(),
    from_bytes: Callable[[bytes], Result] = json.loads,
) -> Result:
    """Call a function on the main process, as a single process, and send its result to the others.

    Args:
        function: Called on the main process only.
        to_bytes: Serializes its result; default: JSON.
        from_bytes: Restores the result from these bytes.

    Returns:
        The result, on every process.

    Raises:
        DynamicExitError: `function` raised it; it is raised on every process.
        RuntimeError: `function` raised any other exception; on the main process that exception itself is raised.
    """
    if world_size() == 1:
        return function()
    if not is_main_process():
        return from_bytes(_open(_broadcast_bytes(None), 0))
    outcome = _call(function, to_bytes)
    _broadcast_bytes(outcome.message)
    return outcome.get()


def run_on_all(function: Callable[[], Result]) -> Result:
    """Call a function on every process, each as a single process; if it fails on one, it fails on all.

    Args:
        function: Called on every process.

    Returns:
        The result of this process.

    Raises:
        DynamicExitError: `function` raised it on some process; the first one's is raised.
        RuntimeError: `function` raised any other exception on another process.
    """
    return function() if world_size() == 1 else _call_everywhere(function, lambda result: b"")[0]


def all_gather_rows(function: Callable[[], Sequence[np.ndarray]]) -> list[np.ndarray]:
    """Let every process compute arrays for its shard, as a single process, and concatenate those of all processes.

    Args:
        function: Returns arrays (n, ...) for the n rows of this process; nothing if it has none.

    Returns:
        The arrays (N, ...) for all rows, in order, on every process.

    Raises:
        DynamicExitError: `function` raised it on some process; the first one's is raised.
        RuntimeError: `function` raised any other exception on another process.
    """
    if world_size() == 1:
        return list(function())
    parts = [_unpack_arrays(content) for content in _call_everywhere(function, _pack_arrays)[1]]
    return [np.concatenate(each) for each in zip(*filter(None, parts), strict=True)]


def all_reduce_sum(tensors: "Sequence[Tensor]") -> None:
    """Replace tensors of one dtype, of the same shapes on every process, by their sums over all processes."""
    _for_all(tensors, lambda flat, group: torch.distributed.all_reduce(flat, group=group))


def broadcast(tensors: "Sequence[Tensor]") -> None:
    """Replace tensors, of the same shapes and dtypes on every process, by the values of the main process."""
    for dtype in sorted({tensor.dtype for tensor in tensors}, key=str):
        same = [tensor for tensor in tensors if tensor.dtype == dtype]
        _for_all(same, lambda flat, group: torch.distributed.broadcast(flat, 0, group=group))


def _is_joined() -> bool:
    return bool(_processes_depth) and not _single_process_depth and is_distributed()


@functools.cache
def _state() -> "PartialState":
    # torch's optimizers import this later, and defaults of its functions would keep a group of then from ending
    import torch._dynamo
    from accelerate import PartialState

    forced = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    atexit.register(_destroy_groups)
    return PartialState(cpu=forced or not torch.accelerator.is_available(), timeout=_TIMEOUT)


def _destroy_groups() -> None:
    """End the threads of the groups: a process that exits with them running may abort after its work is done."""
    _gloo_group.cache_clear()  # a group's threads end with its last reference
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@functools.cache
def _gloo_group() -> "torch.distributed.ProcessGroup":
    """Return the group for tensors on the CPU, whatever the devices are."""
    _state()
    return cast("torch.distributed.ProcessGroup", torch.distributed.new_group(backend="gloo", timeout=_TIMEOUT))


def _for_all(
    tensors: "Sequence[Tensor]", collective: "Callable[[Tensor, torch.distributed.ProcessGroup | None], object]"
) -> None:
    """Run a collective in place on tensors of one dtype, all at once."""
    if world_size() == 1 or not tensors:
        return
    with torch.no_grad():
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        collective(flat, _gloo_group() if flat.device.type == "cpu" else None)
        sizes = [tensor.numel() for tensor in tensors]
        for tensor, values in zip(tensors, flat.split(sizes), strict=True):
            tensor.copy_(values.view_as(tensor))


def _call_everywhere(function: Callable[[], Result], to_bytes: Callable[[Result], bytes]) -> tuple[Result, list[bytes]]:
    """Return the result of this process, and those of all processes as bytes."""
    outcome = _call(function, to_bytes)
    messages = _all_gather_bytes(outcome.message)
    return outcome.get(), [_open(each, index) for index, each in enumerate(messages)]


@dataclass(frozen=True)
class _Outcome(Generic[Result]):
    """What a call on this process came to, and the message that tells the other processes."""

    message: bytes
    result: Result | None = None
    error: Exception | None = None

    def get(self) -> Result:
        """Return the result, or raise the exception."""
        if self.error:
            raise self.error
        return cast(Result, self.result)


def _call(function: Callable[[], Result], to_bytes: Callable[[Result], bytes]) -> _Outcome[Result]:
    try:
        with single_process():
            result = function()
            return _Outcome(_SUCCESS + to_bytes(result), result)
    except Exception as error:  # sent to the others, and raised here afterwards
        kind = type(error).__name__ if isinstance(error, DynamicExitError) else None
        return _Outcome(_FAILURE + json.dumps([kind, str(error) or type(error).__name__]).encode(), error=error)


def _open(message: bytes, index: int) -> bytes:
    """Return the result in the message of a process, or raise its exception."""
    if message[:1] == _SUCCESS:
        return message[1:]
    kind, text = json.loads(message[1:])
    if kind is None:
        raise RuntimeError(f"process {index} failed: {text}")
    raise getattr(errors, kind, DynamicExitError)(text)


def _pack_arrays(arrays: Sequence[np.ndarray]) -> bytes:
    return pack_files({str(index): array_to_bytes(array) for index, array in enumerate(arrays)})


def _unpack_arrays(content: bytes) -> list[np.ndarray]:
    return [array_from_bytes(each) for each in unpack_files(content).values()]


def _all_gather_bytes(content: bytes) -> list[bytes]:
    sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(world_size())]
    torch.distributed.all_gather(sizes, torch.tensor([len(content)]), group=_gloo_group())
    own = torch.zeros(int(max(sizes)), dtype=torch.uint8)
    own[: len(content)] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    gathered = [torch.empty_like(own) for _ in sizes]
    torch.distributed.all_gather(gathered, own, group=_gloo_group())
    return [each[: int(size)].numpy().tobytes() for each, size in zip(gathered, sizes, strict=True)]


def _broadcast_bytes(content: bytes | None) -> bytes:
    """Send bytes from the main process, and return them on every process.

    Args:
        content: Not empty on the main process, None on the others.
    """
    size = torch.tensor([len(content or b"")])
    torch.distributed.broadcast(size, 0, group=_gloo_group())
    values = (
        torch.frombuffer(bytearray(content), dtype=torch.uint8)
        if content
        else torch.empty(int(size), dtype=torch.uint8)
    )
    torch.distributed.broadcast(values, 0, group=_gloo_group())
    return values.numpy().tobytes()
