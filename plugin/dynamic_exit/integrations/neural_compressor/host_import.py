"""Imports Neural Compressor: after transformers, and without the messages of its import."""

import contextlib
import importlib
import logging
import os
import sys
import threading
from collections.abc import Iterator

#: Neural Compressor's logger, and the variable that sets its level where a user wants another.
LOGGER_NAME, LEVEL_VARIABLE = "neural_compressor", "LOGLEVEL"
# these look for transformers whenever they run, but import it only if it was there when they were imported
_WEIGHT_ONLY = tuple(f"neural_compressor.torch.algorithms.weight_only.{name}" for name in ("rtn", "teq", "gptq"))


@contextlib.contextmanager
def suppress_messages() -> Iterator[None]:
    """Drop what Neural Compressor says below an error in this thread, unless the user has set its level.

    The level of its logger stays as it is: it is read from the environment once, on import.
    """
    thread, logger = threading.get_ident(), logging.getLogger(LOGGER_NAME)

    def serious(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR or record.thread != thread

    if LEVEL_VARIABLE in os.environ:
        yield
        return
    logger.addFilter(serious)
    try:
        yield
    finally:
        logger.removeFilter(serious)


def import_neural_compressor() -> None:
    """Import transformers, then Neural Compressor; where that was used before, let it find transformers, too."""
    import transformers

    with suppress_messages():
        importlib.import_module("neural_compressor.torch.quantization")
    for name in _WEIGHT_ONLY:
        # imported before transformers, it would fail from now on with a NameError
        if name in sys.modules and not hasattr(sys.modules[name], "transformers"):
            sys.modules[name].transformers = transformers


import_neural_compressor()
