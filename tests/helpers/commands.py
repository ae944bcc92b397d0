"""The command in processes of their own, to be signalled at a moment that is known."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from fork_server import end_with

import dynamic_exit
from dynamic_exit.cli.main import main

PLUGIN = Path(dynamic_exit.__file__).parents[1]
# far beyond what any step takes on a machine that does much else
_PATIENCE = 600.0


class Command:
    """A process that runs the command; what it prints goes into a file."""

    def __init__(self, pid: int, log: Path, wait: Callable[[], int | None]):
        self.pid, self.log, self._wait = pid, log, wait

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def until(self, reached: Callable[[], bool]) -> None:
        """Wait for a moment, which must come before the process ends."""
        self._patiently(lambda: reached() or self._wait() is not None)
        assert reached(), self.said

    def signalled(self, number: int) -> int:
        """Send a signal and return the exit code, which is negative where the signal itself ended the process."""
        os.kill(self.pid, number)
        return self.ended()

    def ended(self) -> int:
        self._patiently(lambda: self._wait() is not None)
        return self._wait()

    def _patiently(self, over: Callable[[], bool]) -> None:
        ends = time.monotonic() + _PATIENCE
        while not over():
            if time.monotonic() > ends:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
                raise AssertionError(f"nothing came of it: {self.said}")
            time.sleep(0.01)


def begun(log: Path, *arguments: object, python: tuple[str, ...] = ()) -> Command:
    """Start the command as a user does, from its imports on."""
    environment = {**os.environ, "PYTHONPATH": str(PLUGIN), "OMP_NUM_THREADS": "1"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *python, "-m", "dynamic_exit.cli", *map(str, arguments)],
            stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment, preexec_fn=_listen,
        )  # fmt: skip
    return Command(process.pid, log, process.poll)


def forked(log: Path, *arguments: object) -> Command:
    """Start the command in a copy of this process, which has all imports behind it."""
    pid = os.fork()
    if pid == 0:
        _child(log, [str(argument) for argument in arguments])
    codes: list[int] = []

    def wait() -> int | None:
        if not codes:
            gone, status = os.waitpid(pid, os.WNOHANG)
            codes.extend([os.waitstatus_to_exitcode(status)] if gone else [])
        return codes[0] if codes else None

    return Command(pid, log, wait)


def _listen() -> None:
    """Hear signals that the tests themselves may have been started to ignore."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _child(log: Path, arguments: list[str]) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(file, number)
    sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))
    end_with(lambda: main(arguments))
