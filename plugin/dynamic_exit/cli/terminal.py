"""Log lines on a terminal."""

import codecs
import contextlib
import io
import logging
import sys
from collections.abc import Iterator

import typer
from rich.console import Console

from ..core import signals
from ..core.launcher import is_rank_zero
from ..core.logging import logging_to, package_logger


class TerminalHandler(logging.Handler):
    """Prints log records as plain lines, warnings with ``warning: `` before them.

    Args:
        console: Where they are printed.
        names: Whether the logger's name stands before every line.
    """

    def __init__(self, console: Console, names: bool = False):
        super().__init__()
        self.console, self.names = console, names

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record.

        Raises:
            KeyboardInterrupt: A signal came, and the code that was interrupted has swallowed it.
        """
        signals.raise_if_interrupted()
        severity = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        name = f"{record.name}: " if self.names else ""
        self.console.print(f"{name}{severity}{record.getMessage()}", highlight=False, markup=False, soft_wrap=True)


# for terminals and files that know ASCII or one code page alone
_PLAIN = {"±": "+-", "µ": "u", "≥": ">=", "≤": "<=", "×": "x", "…": "...", "–": "-", "—": "-", "→": "->"}


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Write what an encoding lacks in plain characters, as handlers of `codecs` do."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(each, "?") for each in error.object[error.start : error.end]), error.end


codecs.register_error("dynamic_exit.plain", _replace)


def plain(text: str) -> str:
    """Return a text as stdout shows it, with plain characters for those that its encoding lacks."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "dynamic_exit.plain").decode(encoding)


@contextlib.contextmanager
def encodable_output() -> Iterator[None]:
    """Let stdout and stderr write what their encoding lacks in plain characters, in place of raising an error."""
    before = [(each, each.errors) for each in (sys.stdout, sys.stderr) if isinstance(each, io.TextIOWrapper)]
    for stream, errors in before:
        if errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="dynamic_exit.plain")
    try:
        yield
    finally:
        for stream, errors in before:
            with contextlib.suppress(ValueError):  # it was closed
                stream.reconfigure(errors=errors)


@contextlib.contextmanager
def prints_on_stderr() -> Iterator[None]:
    """Let what code of the user prints go to stderr: stdout holds what scripts read."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


@contextlib.contextmanager
def terminal_log(quiet: bool = False, verbose: bool = False) -> Iterator[Console]:
    """Print the package's log on stderr while a command runs; of several processes, the main one does.

    Args:
        quiet: Warnings and errors alone.
        verbose: Details too, with the names of loggers.

    Yields:
        The console of stderr.

    Raises:
        typer.BadParameter: Both are set.
    """
    if quiet and verbose:
        raise typer.BadParameter("--quiet and --verbose contradict each other; give one of them")
    console = Console(stderr=True)
    if not is_rank_zero():
        yield console
        return
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    propagates, package_logger.propagate = package_logger.propagate, False  # libraries add handlers during a command
    try:
        with logging_to(TerminalHandler(console, names=verbose), level):
            yield console
    finally:
        package_logger.propagate = propagates
