"""The view of a run in a terminal of its own, interrupted by Ctrl-C."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time

import tiny
from commands import PLUGIN
from screen import show


def _start(width, *arguments):
    """Run the command in a terminal of its own; return its process and the terminal's other end."""
    terminal, inside = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    flags = termios.tcgetattr(inside)
    flags[3] |= termios.NOFLSH  # else Ctrl-C drops what is written and not read yet, in the middle of a frame
    termios.tcsetattr(inside, termios.TCSANOW, flags)
    environment = {**os.environ, "PYTHONPATH": str(PLUGIN), "OMP_NUM_THREADS": "1", "TERM": "xterm"}
    for name in ("NO_COLOR", "COLUMNS"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "dynamic_exit", *map(str, arguments)]
    process = subprocess.Popen(
        command, stdin=inside, stdout=inside, stderr=inside, env=environment, start_new_session=True,
        preexec_fn=_own_terminal,
    )  # fmt: skip
    os.close(inside)
    return process, terminal


def _own_terminal():
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it starts in the background


def _read(terminal, until):
    written, ends = b"", time.monotonic() + 300
    while until not in written and time.monotonic() < ends:
        try:
            more = os.read(terminal, 1 << 16)
        except OSError:  # the process has closed it
            break
        if not more:
            break
        written += more
    return written


def test_an_interrupt_in_a_terminal_leaves_a_folder_to_resume_and_says_so(tmp_path):
    exits = {"count": 1, "training": {"epochs": 5000, "patience": 5000}}
    recipe = tiny.build(tmp_path, quantization=None, dynamic_exit__tiny_saver=None, dynamic_exit__early_exit=exits)
    process, terminal = _start(80, "run", recipe, "--output", tmp_path / "out")
    written = _read(terminal, b"epoch 500 of")
    os.write(terminal, b"\x03")
    written += _read(terminal, b"nothing that it writes")
    assert process.wait() == 130, written.decode()
    os.close(terminal)
    text = "".join("".join(show(written.decode().replace("^C", ""), 80)).split())
    assert "✓backbone2segmentsinfloat" in text, repr(written)
    assert re.search(r"✗exitsinterrupted\d", text)
    assert text.endswith("keepswhatisdone:runthesamecommandwith--resumetogoonfromthere")
    assert (tmp_path / "out.partial" / "work" / "exits.safetensors").exists()
    assert text.count("▸") == 0
