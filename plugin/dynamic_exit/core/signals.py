"""Ctrl-C and SIGTERM end the command in order: files are closed, locks released, one line says how to resume.

This module imports nothing heavy, as signals may arrive while the rest of the package is imported.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from .launcher import is_distributed

_Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# seconds within which a signal that reaches the process twice, through its group and from its parent, counts as one
_SAME_SIGNAL = 1.0
# number and time of the first signal
_received: tuple[int, float] | None = None
_advice: Callable[[], str] | None = None


def exit_on_signal_during_import() -> None:
    """Let signals end the process with one line if it is the command and has only begun to import this package."""
    program = os.path.splitext(os.path.basename(sys.argv[0] if sys.argv else ""))[0]
    modules = {("-m", "dynamic_exit"), ("-m", "dynamic_exit.cli")}
    if program == "dynamic-exit" or modules & {*zip(sys.orig_argv, sys.orig_argv[1:], strict=False)}:
        _install(_exit)


@contextmanager
def handle_signals() -> Iterator[None]:
    """Turn signals into `KeyboardInterrupt`; after one, exit with one line on stderr and code 128 plus its number.

    A second signal, later, ends the process at once. Outside of the main thread, and where a launcher started several
    processes, signals keep their handlers.
    """
    global _received, _advice
    _received, _advice = None, None
    before, hook = _install(_interrupt), sys.unraisablehook
    sys.unraisablehook = lambda what: None if isinstance(what.exc_value, KeyboardInterrupt) else hook(what)
    try:
        yield
    except BaseException:
        if not _received:
            raise
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            # where the command began with an import, its work is complete: nothing is left to interrupt
            signal.signal(number, signal.SIG_IGN if handler is _exit else handler)
    if _received:
        print(_line(), file=sys.stderr, flush=True)
        sys.exit(128 + _received[0])


@contextmanager
def advise_on_interrupt(advice: Callable[[], str]) -> Iterator[None]:
    """Print this advice if a signal ends the block.

    Args:
        advice: Returns what follows the command's name in the line.
    """
    global _advice
    _advice = advice
    yield
    # kept if an exception leaves the block: `handle_signals` prints it further out
    _advice = None


def raise_if_interrupted() -> None:
    """Raise `KeyboardInterrupt` again if a signal came and the interrupted code swallowed the first one."""
    if _received:
        raise KeyboardInterrupt


def _install(handler: Callable[[int, FrameType | None], None]) -> dict[signal.Signals, _Handler]:
    """Set a handler for all signals that are not ignored; return the previous ones."""
    if is_distributed() or threading.current_thread() is not threading.main_thread():
        return {}
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    # a shell starts background jobs with signals ignored
    before = {number: known for number, known in before.items() if known not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, handler)
    return before


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _received
    if not _received:
        _received = (number, time.monotonic())
        raise KeyboardInterrupt
    if time.monotonic() - _received[1] > _SAME_SIGNAL:
        _exit(_received[0], frame)


def _exit(number: int, frame: FrameType | None) -> None:
    os.write(2, f"{_line()}\n".encode())
    os._exit(128 + number)


def _line() -> str:
    return f"dynamic-exit: {_advice() if _advice else 'interrupted'}"
