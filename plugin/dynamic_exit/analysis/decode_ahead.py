"""Decodes pictures in a process of its own while this one imports torch, so that the cache has them by then."""

import contextlib
import gc
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NoReturn

from ..core.hashing import digest
from ..core.launcher import is_distributed
from ..data.slices import parse_slice
from ..errors import DataError

if TYPE_CHECKING:
    from ..recipe.recipe import Recipe

#: Files from which on this pays; fewer are decoded before another process would have begun.
MIN_FILES = 500


@contextlib.contextmanager
def decoding_ahead(recipe: "Recipe") -> Iterator[Callable[[], None]]:
    """Decode the pictures of a recipe while the block runs, where that pays.

    Nothing is known of the model yet: that it takes colors, and pictures as they are where all have one size, is a
    guess. Who reads the data goes by the cache, which holds nothing that fits after a wrong guess or a failure.

    Args:
        recipe: The recipe.

    Yields:
        A function that waits for the end of this work; what is not waited for is given up at the end of the block.
    """
    files = _stamp_files(recipe)
    done = digest("decoded ahead", files, recipe.data.model_dump_json())
    if len(files) < MIN_FILES or recipe.dynamic_exit.cache.open().value(done):
        yield lambda: None
        return
    process = os.fork()
    if not process:
        _work(recipe, len(files), done)
    running = True

    def wait() -> None:
        nonlocal running
        if running:
            os.waitpid(process, 0)
            running = False

    try:
        yield wait
    finally:
        if running:
            os.kill(process, signal.SIGTERM)
        wait()


def _stamp_files(recipe: "Recipe") -> list[str]:
    """List the files of a folder of pictures with sizes and times; none where a fork is unsafe or knows too little."""
    data = recipe.data
    # the names of classes decide on the order of pictures, and the model may have them
    if data.source != "imagefolder" or not data.classes or not recipe.dynamic_exit.cache.enabled or is_distributed():
        return []
    # a fork may wait forever for what threads held, and torch has some
    if sys.platform != "linux" or threading.active_count() > 1 or "torch" in sys.modules or (os.cpu_count() or 1) < 2:
        return []
    paths = sorted(os.path.join(folder, name) for folder, _, names in os.walk(data.path) for name in names)
    stats = [(path, os.lstat(path)) for path in paths]
    return [f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats]


def _work(recipe: "Recipe", files: int, done: str) -> NoReturn:
    """Decode, and end this process without what it owes to the other: output that waits, locks, functions at exit."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process ends this one
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(BaseException):  # whatever it is, the other process comes upon it and says so
        _decode(recipe, files)
        recipe.dynamic_exit.cache.open().keep(done, True)  # the next call needs no process
    gc.collect()  # removes a temporary cache
    os._exit(0)


def _decode(recipe: "Recipe", files: int) -> None:
    from ..core.mapped_arrays import MAX_BYTES_IN_MEMORY
    from ..data.imagefolder_source import KIND
    from ..data.reader import ReadRequest
    from ..images import ImageFormat, ImageReading
    from ..sources.class_names import find_class_names

    def guess_format(size: tuple[int, int] | None) -> ImageFormat:
        form = ImageFormat()
        if size is None or files * form.channels * math.prod(size) <= MAX_BYTES_IN_MEMORY:
            raise DataError("pictures of several sizes become what the model takes; small ones are not cached")
        return form

    source = recipe.data
    names = [name for name, _ in map(parse_slice, source.splits.names.values())]
    reading = ImageReading(guess_format, recipe.dynamic_exit.cache.open())
    read = KIND.make(
        source, ReadRequest(names, None, lambda: find_class_names(source, None), lambda line: None, reading)
    )
    for name in dict.fromkeys(names):
        read(name)
