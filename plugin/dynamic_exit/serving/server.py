"""Runs the application under uvicorn until a signal ends it."""

import socket
import sys
from pathlib import Path

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
        address, bound = listener.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        print(
            f"serving '{model.name}' at http://{shown}:{bound}, at the point '{model.operating_point.name}'", flush=True
        )
        sys.setswitchinterval(_SWITCH_SECONDS)  # this process does nothing else
        with signals.advise_on_interrupt(lambda: "stopped; all requests that were accepted have been answered"):
            server.run(sockets=[listener])


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
