"""Import of Neural Compressor after transformers and without its log messages."""

import contextlib
import importlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

#: Name of Neural Compressor's logger, and the environment variable that sets its level.
LOGGER_NAME, LEVEL_VARIABLE = "neural_compressor", "LOGLEVEL"
# the level of a second logger, with a file, and the value that turns it off
_LEVEL_OF_FILE, _NO_FILE = "LOG_LEVEL_INC", "6"
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


@contextlib.contextmanager
def _without_log_file() -> Iterator[None]:
    """Let Neural Compressor, which opens a log file in the home directory on import, do without where it cannot."""
    if _LEVEL_OF_FILE in os.environ or f"{LOGGER_NAME}.torch" in sys.modules or _has_log_file():
        yield
        return
    os.environ[_LEVEL_OF_FILE] = _NO_FILE
    try:
        yield
    finally:
        del os.environ[_LEVEL_OF_FILE]


def _has_log_file() -> bool:
    """Whether the log file can be written: the one that Neural Compressor opens in a process that is alone."""
    folder = Path(os.environ.get("HABANA_LOGS") or os.path.join(os.environ.get("HOME", "/tmp"), ".habana_logs"))  # noqa: S108
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "inc_log.txt").open("a").close()
    except OSError:
        return False
    return True


def import_neural_compressor() -> None:
    """Import transformers, then Neural Compressor; if the latter came first, make transformers known to it."""
    import transformers

    with suppress_messages(), _without_log_file():
        importlib.import_module("neural_compressor.torch.quantization")
    for name in _WEIGHT_ONLY:
        module = sys.modules.get(name)
        if module is not None and not hasattr(module, "transformers"):
            vars(module)["transformers"] = transformers  # without it the algorithm fails with a NameError
