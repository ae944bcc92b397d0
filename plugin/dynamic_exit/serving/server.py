"""Runs the application under uvicorn until a signal ends it."""

import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core import signals
from ..errors import ServingError, first_line
from .options import ServingOptions

# a model's thread that wants the interpreter back would wait for 5 ms until the event loop lets go of it
_SWITCH_SECONDS = 0.0005


def serve(folder: Path, host: str, port: int, options: ServingOptions, **loading: object) -> None:
    """Serve a folder over HTTP until SIGTERM or Ctrl-C; what has been accepted by then is answered.

    Args:
        folder: A folder that ``dynamic-exit run`` wrote.
        host: Name or address to listen at.
        port: Port, 0 for any that is free; the line that is printed says which.
        options: Limits and token.
        **loading: As for `ServedFolder`.

    Raises:
        ServingError: What it needs is not installed, or the port cannot be had.
        DynamicExitError: The folder cannot be loaded.
    """
    try:
        from .model import ServedFolder
        from .uvicorn_server import make_server
    except ModuleNotFoundError as error:
        raise ServingError(
            f"serving needs {error.name}, which is not installed; install the extra `serving`"
        ) from error

    with listen(host, port) as listener:
        model = ServedFolder(folder, **loading)  # type: ignore[arg-type]  # passed on
        server = make_server(model, options)
        announce(model.name, listener.getsockname(), model.operating_point.name)
        sys.setswitchinterval(_SWITCH_SECONDS)  # this process does nothing else
        with signals.advise_on_interrupt(lambda: "stopped; all requests that were accepted have been answered"):
            try:
                server.run(sockets=[listener])
            finally:
                model.close()


def announce(name: str, address: Sequence[Any], point: str) -> None:
    """Print where a model is served.

    Args:
        name: Of the model.
        address: Of a socket: host and port first.
        point: Name of its operating point.
    """
    host, port = address[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"serving '{name}' at http://{shown}:{port}, at the point '{point}'", flush=True)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ServingError: The port is in use, or the host or port cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise ServingError(
            f"cannot listen at {host}:{port}: {reason}; give another --port, or 0 for any that is free"
        ) from error
    # connections inherit it; asyncio sets it for its own sockets alone, and answers in two parts would wait for 40 ms
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
