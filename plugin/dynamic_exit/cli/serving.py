"""The command `serve`."""

import os
import re
from dataclasses import dataclass
from typing import Annotated

import typer

from ..errors import ServingError
from .options import Folder, Progress


def _read_seconds(text: str) -> float:
    """Return the seconds of a duration such as ``50ms`` or ``0.5s``."""
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+) ?(ms|s)", text)
    seconds = float(found[1]) / (1000 if found[2] == "ms" else 1) if found else 0.0
    if seconds <= 0:
        raise ServingError(f"--p99 takes a duration above 0 with its unit, such as 50ms or 0.5s; got '{text}'")
    return seconds


@dataclass(frozen=True)
class Place:
    """Where a model is served, and what it is called there."""

    host: Annotated[str, typer.Option(help="name or address to listen at; 0.0.0.0 is open to others")] = "127.0.0.1"
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free")] = 8000
    name: Annotated[str | None, typer.Option(help="name of the model in addresses; default: the folder's")] = None


@dataclass(frozen=True)
class PointOptions:
    """At which operating points it answers."""

    operating_point: Annotated[str | None, typer.Option(help="name of the first; default: the folder's")] = None
    p99: Annotated[
        float | None,
        typer.Option(
            parser=_read_seconds,
            metavar="DURATION",
            help="such as 50ms: switch by load, to the most accurate point that answers 99 % of requests within it",
        ),
    ] = None
    lowest_point: Annotated[
        str | None, typer.Option(help="with --p99: take no less accurate point than this; default: all may be taken")
    ] = None

    def check(self) -> None:
        """Raise `ServingError` if they contradict each other."""
        if self.p99 is None and self.lowest_point is not None:
            raise ServingError("--lowest-point limits what load may choose; give a latency goal as --p99, such as 50ms")
        if self.p99 is not None and self.operating_point is not None:
            raise ServingError("with --p99 load chooses the operating point; leave --operating-point out")


@dataclass(frozen=True)
class Limits:
    """What is taken at once, and for how long."""

    max_batch: Annotated[int, typer.Option(min=1, help="rows of several requests that go together")] = 64
    max_delay: Annotated[float, typer.Option(min=0, max=1000, help="milliseconds that a request waits for others")] = (
        0.0
    )
    max_rows: Annotated[int, typer.Option(min=1, help="rows in one request")] = 1024
    max_body: Annotated[float, typer.Option(min=0.001, help="megabytes in one request")] = 16.0
    max_requests: Annotated[int, typer.Option(min=1, help="requests at the same time; further ones get 429")] = 64
    timeout: Annotated[float, typer.Option(min=0.001, help="seconds until a request must be answered")] = 30.0


def serve(
    folder: Folder,
    *,
    place: Place,
    points: PointOptions,
    limits: Limits,
    threads: Annotated[int | None, typer.Option(min=1, help="threads within an operator; default: all cores")] = None,
    monitor: Annotated[bool, typer.Option("--monitor", help="watch whether traffic is like the test samples")] = False,
    non_finite: Annotated[
        str, typer.Option(help="NaN or infinity in an input: refuse, or report as NaN in the answer")
    ] = "refuse",
    progress: Progress,
) -> None:
    """Serve a written model over HTTP (Open Inference Protocol, pictures and texts, Prometheus), in this process."""
    from ..serving.options import MEGABYTE, TOKEN_VARIABLE, ServingOptions
    from ..serving.server import serve as serve_folder

    token = os.environ.get(TOKEN_VARIABLE)
    if token is not None and not token.strip():
        raise ServingError(f"{TOKEN_VARIABLE} is set and empty; give it a token, or unset it")
    points.check()
    options = ServingOptions(
        max_batch=limits.max_batch,
        max_delay=limits.max_delay / 1000,
        max_rows=limits.max_rows,
        max_body=int(limits.max_body * MEGABYTE),
        max_requests=limits.max_requests,
        timeout=limits.timeout,
        p99=points.p99,
        lowest_point=points.lowest_point,
        token=token,
    )
    loading = {
        "name": place.name,
        "operating_point": points.operating_point,
        "threads": threads,
        "monitored": monitor,
        "non_finite": non_finite,
    }
    with progress.log():
        serve_folder(folder, place.host, place.port, options, **loading)
