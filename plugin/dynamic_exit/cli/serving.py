"""The command `serve`."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ServingError
from .options import Folder, Progress

if TYPE_CHECKING:
    from ..serving.options import WatchOptions


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


@dataclass(frozen=True)
class Replicas:
    """How many servers there are."""

    ray: Annotated[
        bool, typer.Option("--ray", help="serve on Ray Serve: on the cluster in RAY_ADDRESS, else on this machine")
    ] = False
    replicas: Annotated[
        str | None,
        typer.Option(
            metavar="N or MIN-MAX",
            help="with --ray: servers at one address, of one processor each unless --threads says more; default: 1",
        ),
    ] = None

    def check(self, monitor: bool) -> None:
        """Raise `ServingError` if they contradict each other, or `monitor`."""
        if self.replicas is not None and not self.ray:
            raise ServingError("--replicas are of Ray Serve; add --ray, as without it one process answers")
        if self.ray and monitor:
            raise ServingError("--monitor watches the answers of one process; leave it out with --ray")

    @property
    def bounds(self) -> tuple[int, int]:
        """The fewest and the most."""
        text = "1" if self.replicas is None else self.replicas
        found = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", text)
        fewest, most = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not 1 <= fewest <= most:
            raise ServingError(
                f"--replicas takes a number such as 2, or the fewest and the most such as 1-4; got '{text}'"
            )
        return fewest, most


@dataclass(frozen=True)
class Watching:
    """Whether traffic is watched, and what is done where it has moved."""

    monitor: Annotated[bool, typer.Option("--monitor", help="watch whether traffic is like the test samples")] = False
    check_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="share of batches that the backbone answers too; default: 0.01")
    ] = None
    adapt: Annotated[
        bool,
        typer.Option("--adapt", help="re-tune thresholds where traffic has moved; until then the backbone answers"),
    ] = False
    agreement: Annotated[
        float | None,
        typer.Option(help="with --adapt: share of answers that must be the backbone's; default: as on test samples"),
    ] = None
    monitor_state: Annotated[
        Path | None, typer.Option(help="JSON that the monitor goes on from if it exists, and keeps")
    ] = None
    no_watch_inputs: Annotated[
        bool, typer.Option("--no-watch-inputs", help="with --monitor: watch answers alone, and not how inputs are")
    ] = False

    def options(self) -> "WatchOptions | None":
        """Return how answers are watched; None if they are not.

        Raises:
            ServingError: They contradict each other.
        """
        from ..serving.options import WatchOptions

        given = {
            "--check-share": self.check_share is not None,
            "--adapt": self.adapt,
            "--monitor-state": self.monitor_state is not None,
            "--no-watch-inputs": self.no_watch_inputs,
        }
        if not self.monitor and any(given.values()):
            raise ServingError(f"{next(name for name in given if given[name])} is of the monitor; give --monitor too")
        if self.agreement is not None and not self.adapt:
            raise ServingError("--agreement is what re-tuned thresholds must keep; give --adapt too")
        share = WatchOptions.check_share if self.check_share is None else self.check_share
        inputs = not self.no_watch_inputs
        return WatchOptions(share, self.adapt, self.agreement, self.monitor_state, inputs) if self.monitor else None


def serve(
    folder: Folder,
    *,
    place: Place,
    points: PointOptions,
    limits: Limits,
    replicas: Replicas,
    watching: Watching,
    threads: Annotated[
        int | None, typer.Option(min=1, help="threads within an operator; default: all cores, with --ray 1")
    ] = None,
    non_finite: Annotated[
        str, typer.Option(help="NaN or infinity in an input: refuse, or report as NaN in the answer")
    ] = "refuse",
    progress: Progress,
) -> None:
    """Serve a written model over HTTP (Open Inference Protocol, pictures and texts, Prometheus), here or on Ray."""
    from ..serving.options import MEGABYTE, TOKEN_VARIABLE, ServingOptions
    from ..serving.ray_server import serve_on_ray
    from ..serving.server import serve as serve_folder

    token = os.environ.get(TOKEN_VARIABLE)
    if token is not None and not token.strip():
        raise ServingError(f"{TOKEN_VARIABLE} is set and empty; give it a token, or unset it")
    points.check()
    replicas.check(watching.monitor)
    watched = watching.options()
    if watching.adapt and points.p99 is not None:
        raise ServingError("--p99 and --adapt would both choose what answers; leave one of them out")
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
        "non_finite": non_finite,
    }
    with progress.log():
        if replicas.ray:
            serve_on_ray(folder, place.host, place.port, options, replicas.bounds, **loading)
        else:
            serve_folder(folder, place.host, place.port, options, **loading, watching=watched)
