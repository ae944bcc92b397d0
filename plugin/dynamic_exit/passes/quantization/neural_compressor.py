"""Import of Neural Compressor after transformers and without its log messages."""

import contextlib
import importlib
import logging
import os
import sys
import threading
from collections.abc import Iterator

#: Name of Neural Compressor's logger, and the environment variable that sets its level.
LOGGER_NAME, LEVEL_VARIABLE = "neural_compressor", "LOGLEVEL"
# these use transformers on every run but import it only if it was imported before them
_WEIGHT_ONLY = tuple(f"neural_compressor.torch.algorithms.weight_only.{name}" for name in ("rtn", "teq", "gptq"))


@contextlib.contextmanager
def suppress_messages() -> Iterator[None]:
    """Drop Neural Compressor's messages below ERROR from this thread, unless the user has set its log level.

    A filter is used because the logger's level must not change: it is read from the environment once, on import.
    """
    thread, logger = threading.get_ident(), logging.getLogger(LOGGER_NAME)

    def keep(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR or record.thread != thread

    if LEVEL_VARIABLE in os.environ:
        yield
        return
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


def import_neural_compressor() -> None:
    """Import transformers, then Neural Compressor; if the latter came first, make transformers known to it."""
    import transformers

    with suppress_messages():
        importlib.import_module("neural_compressor.torch.quantization")
    for name in _WEIGHT_ONLY:
        module = sys.modules.get(name)
        if module is not None and not hasattr(module, "transformers"):
            vars(module)["transformers"] = transformers  # without it the algorithm fails with a NameError
