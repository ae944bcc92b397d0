"""Ctrl-C and SIGTERM end the command in order: files are closed, locks released, one line says how to go on.

This module imports nothing heavy, as signals may come while the rest of the package is imported.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .launcher import is_distributed

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# a signal that reaches the process twice at once, through its group and from its parent, counts as one
_AGAIN = 1.0
# number and time of the first signal
_came: tuple[int, float] | None = None
_advice: Callable[[], str] | None = None


def end_at_once_while_importing() -> None:
    """Let signals end the process with one line, where it is the command and has only begun to import this package."""
    begun = os.path.splitext(os.path.basename(sys.argv[0] if sys.argv else ""))[0]
    if begun == "dynamic-exit" or ("-m", "dynamic_exit.cli") in zip(sys.orig_argv, sys.orig_argv[1:], strict=False):
        _install(_end_at_once)


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Turn signals into `KeyboardInterrupt`; where one came, leave with one line on stderr and 128 plus its number.

    A second one, later, ends the process at once. Outside of the main thread, and where a launcher started several
    processes, signals stay as they are.
    """
    global _came, _advice
    _came, _advice = None, None
    before, hook = _install(_raise), sys.unraisablehook
    sys.unraisablehook = lambda what: None if isinstance(what.exc_value, KeyboardInterrupt) else hook(what)
    try:
        yield
    except BaseException:
        if not _came:
            raise
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            # the command has done all that it does: nothing is left to interrupt
            signal.signal(number, signal.SIG_IGN if handler is _end_at_once else handler)
    if _came:
        print(_line(), file=sys.stderr, flush=True)
        sys.exit(128 + _came[0])


@contextmanager
def advised(advice: Callable[[], str]) -> Iterator[None]:
    """Say something of one's own where a signal ends this block.

    Args:
        advice: Returns what follows the command's name.
    """
    global _advice
    _advice = advice
    yield
    # kept where an exception leaves: it is said further out
    _advice = None


def check() -> None:
    """Raise `KeyboardInterrupt` again where a signal came and something swallowed it."""
    if _came:
        raise KeyboardInterrupt


def _install(handler: Callable) -> dict[int, object]:
    """Set a handler for all signals that are not ignored; return those before."""
    if is_distributed() or threading.current_thread() is not threading.main_thread():
        return {}
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    # ignored: as a shell starts jobs in the background
    before = {number: known for number, known in before.items() if known not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, handler)
    return before


def _raise(number: int, frame: object) -> None:
    global _came
    if not _came:
        _came = (number, time.monotonic())
        raise KeyboardInterrupt
    if time.monotonic() - _came[1] > _AGAIN:
        _end_at_once(_came[0], frame)


def _end_at_once(number: int, frame: object) -> None:
    os.write(2, f"{_line()}\n".encode())
    os._exit(128 + number)


def _line() -> str:
    return f"dynamic-exit: {_advice() if _advice else 'interrupted'}"
