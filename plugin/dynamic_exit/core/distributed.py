"""One recipe on several processes: which rows are whose, and how the processes tell each other what they found.

Every process runs the same code, as `torchrun` or `accelerate launch` started it. Rows are shared out in order; what is
decided or written is decided and written by the main process, and the others hear of it. Without a launcher, or outside
of `processes`, there is one process and every function here just does what it is given.
"""

import contextlib
import datetime
import functools
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from .. import errors
from ..errors import DynamicExitError
from .signals import launched

Made = TypeVar("Made")

# the main process may work alone for long while the others wait
_PATIENCE = datetime.timedelta(days=7)
_FINE, _FAILED = b"\0", b"\1"
# how deep in `processes`, and in work that a process does by itself
_joined = _alone = 0


def speaks() -> bool:
    """Whether this process talks to the user: the only one, or the main one of those that a launcher started."""
    return not launched() or os.environ["RANK"] == "0"


@contextlib.contextmanager
def processes() -> Iterator[None]:
    """Work together with the other processes that a launcher started, which all must get here."""
    global _joined
    _joined += 1
    try:
        yield
    finally:
        _joined -= 1


@contextlib.contextmanager
def by_itself() -> Iterator[None]:
    """Let this process work as if it were the only one."""
    global _alone
    _alone += 1
    try:
        yield
    finally:
        _alone -= 1


def world() -> int:
    """Return the number of processes that work together."""
    return _state().num_processes if _together() else 1


def workers(threads: int = 1) -> int:
    """Return how many threads of this process keep all cores busy where each of them uses `threads` cores."""
    return max(1, (os.cpu_count() or 1) // (threads * world()))


def rank() -> int:
    """Return the number of this process, in 0..world - 1."""
    return _state().process_index if _together() else 0


def main() -> bool:
    """Whether this process decides and writes."""
    return rank() == 0


def device() -> torch.device:
    """Return where this process trains: a GPU of its own where there are some."""
    if _together() and _state().device.type != "cpu":
        return _state().device
    return torch.device("cuda" if torch.cuda.is_available() and not _together() else "cpu")


def shard(samples: int, whole: int = 1) -> range:
    """Return the rows of this process: all processes' rows in order are all rows.

    Args:
        samples: Number of rows N.
        whole: Rows that stay together from row 0 on, such as a batch whose size decides the last bits.

    Returns:
        Rows; perhaps none, but for the main process where there are some at all.
    """
    blocks = -(-samples // whole)
    first, last = (min(samples, -(-blocks * index // world()) * whole) for index in (rank(), rank() + 1))
    return range(first, last)


def led(
    make: Callable[[], Made],
    pack: Callable[[Made], bytes] = lambda made: json.dumps(made).encode(),
    unpack: Callable[[bytes], Made] = json.loads,
) -> Made:
    """Make something in the main process, by itself, and tell the others.

    Args:
        make: Runs in the main process alone.
        pack: Turns what was made into bytes; default: JSON.
        unpack: Turns the bytes into the same again.

    Returns:
        What was made.

    Raises:
        DynamicExitError: What `make` raised, in every process.
        RuntimeError: `make` raised anything else.
    """
    if world() == 1:
        return make()
    if not main():
        return unpack(_opened(_broadcast(None), 0))
    content, made, error = _outcome(make, pack)
    _broadcast(content)
    if error:
        raise error
    return made


def together(make: Callable[[], Made]) -> Made:
    """Do something in every process, each by itself; where it fails in one, it fails in all.

    Args:
        make: Runs in every process.

    Returns:
        What this process made.

    Raises:
        DynamicExitError: What `make` raised in the first process in which it did.
        RuntimeError: `make` raised anything else there.
    """
    return make() if world() == 1 else _everywhere(make, lambda made: b"")[0]


def gathered(make: Callable[[], Sequence[np.ndarray]]) -> list[np.ndarray]:
    """Let every process make arrays for its rows, by itself, and put those of all processes together.

    Args:
        make: Returns arrays (n, ...) for the n rows of this process; nothing where it has none.

    Returns:
        The arrays (N, ...) for all rows, in order.

    Raises:
        DynamicExitError: What `make` raised in the first process in which it did.
        RuntimeError: `make` raised anything else there.
    """
    if world() == 1:
        return list(make())
    parts = [_arrays(content) for content in _everywhere(make, _packed_arrays)[1]]
    return [np.concatenate(each) for each in zip(*filter(None, parts), strict=True)]


def add(tensors: Sequence[Tensor]) -> None:
    """Put the sum over all processes in the place of tensors of one type, which have the same shapes everywhere."""
    _all(tensors, lambda flat, group: torch.distributed.all_reduce(flat, group=group))


def share(tensors: Sequence[Tensor]) -> None:
    """Put the main process's values in the place of tensors, which have the same shapes and types everywhere."""
    for kind in sorted({tensor.dtype for tensor in tensors}, key=str):
        same = [tensor for tensor in tensors if tensor.dtype == kind]
        _all(same, lambda flat, group: torch.distributed.broadcast(flat, 0, group=group))


def pack_files(files: Mapping[str, bytes]) -> bytes:
    """Return named byte strings as one."""
    names = json.dumps({name: len(content) for name, content in files.items()}).encode()
    return b"".join([len(names).to_bytes(8, "little"), names, *files.values()])


def unpack_files(content: bytes) -> dict[str, bytes]:
    """Return what `pack_files` took."""
    start = 8 + int.from_bytes(content[:8], "little")
    files = {}
    for name, size in json.loads(content[8:start]).items():
        files[name], start = content[start : start + size], start + size
    return files


def _together() -> bool:
    return bool(_joined) and not _alone and launched()


@functools.cache
def _state():
    from accelerate import PartialState

    forced = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    return PartialState(cpu=forced or not torch.accelerator.is_available(), timeout=_PATIENCE)


@functools.cache
def _hosts():
    """The group that talks over the network whatever the devices are."""
    _state()
    return torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)


def _all(tensors: Sequence[Tensor], change: Callable[[Tensor, Any], None]) -> None:
    if world() == 1 or not tensors:
        return
    with torch.no_grad():
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        change(flat, _hosts() if flat.device.type == "cpu" else None)
        sizes = [tensor.numel() for tensor in tensors]
        for tensor, values in zip(tensors, flat.split(sizes), strict=True):
            tensor.copy_(values.view_as(tensor))


def _everywhere(make: Callable[[], Made], pack: Callable[[Made], bytes]) -> tuple[Made, list[bytes]]:
    """Return what this process made, and what all made as bytes."""
    content, made, error = _outcome(make, pack)
    every = _exchange(content)
    if error:
        raise error
    return made, [_opened(each, index) for index, each in enumerate(every)]


def _outcome(make: Callable[[], Made], pack: Callable[[Made], bytes]) -> tuple[bytes, Made | None, Exception | None]:
    try:
        with by_itself():
            made = make()
            return _FINE + pack(made), made, None
    except Exception as error:  # told to the others, and raised here afterwards
        kind = type(error).__name__ if isinstance(error, DynamicExitError) else None
        return _FAILED + json.dumps([kind, str(error) or type(error).__name__]).encode(), None, error


def _opened(content: bytes, index: int) -> bytes:
    if content[:1] == _FINE:
        return content[1:]
    kind, text = json.loads(content[1:])
    if kind is None:
        raise RuntimeError(f"process {index} failed: {text}")
    raise getattr(errors, kind, DynamicExitError)(text)


def _packed_arrays(arrays: Sequence[np.ndarray]) -> bytes:
    files = {}
    for index, array in enumerate(arrays):
        file = io.BytesIO()
        np.save(file, array, allow_pickle=False)
        files[str(index)] = file.getvalue()
    return pack_files(files)


def _arrays(content: bytes) -> list[np.ndarray]:
    return [np.load(io.BytesIO(each), allow_pickle=False) for each in unpack_files(content).values()]


def _exchange(content: bytes) -> list[bytes]:
    sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(world())]
    torch.distributed.all_gather(sizes, torch.tensor([len(content)]), group=_hosts())
    mine = torch.zeros(int(max(sizes)), dtype=torch.uint8)
    mine[: len(content)] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    every = [torch.empty_like(mine) for _ in sizes]
    torch.distributed.all_gather(every, mine, group=_hosts())
    return [each[: int(size)].numpy().tobytes() for each, size in zip(every, sizes, strict=True)]


def _broadcast(content: bytes | None) -> bytes:
    size = torch.tensor([len(content or b"")])
    torch.distributed.broadcast(size, 0, group=_hosts())
    values = (
        torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.empty(size, dtype=torch.uint8)
    )
    torch.distributed.broadcast(values, 0, group=_hosts())
    return values.numpy().tobytes()
