"""The command `serve`."""

import os
from typing import Annotated

import typer

from ..errors import ServingError
from .options import Folder, Progress


def serve(
    folder: Folder,
    *,
    host: Annotated[str, typer.Option(help="name or address to listen at; 0.0.0.0 is open to others")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free")] = 8000,
    name: Annotated[str | None, typer.Option(help="name of the model in addresses; default: the folder's")] = None,
    operating_point: Annotated[str | None, typer.Option(help="name of the first; default: the folder's")] = None,
    max_batch: Annotated[int, typer.Option(min=1, help="rows of several requests that go together")] = 64,
    max_delay: Annotated[
        float, typer.Option(min=0, max=1000, help="milliseconds that a request waits for others")
    ] = 0.0,
    max_rows: Annotated[int, typer.Option(min=1, help="rows in one request")] = 1024,
    max_body: Annotated[float, typer.Option(min=0.001, help="megabytes in one request")] = 16.0,
    max_requests: Annotated[int, typer.Option(min=1, help="requests at the same time; further ones get 429")] = 64,
    timeout: Annotated[float, typer.Option(min=0.001, help="seconds until a request must be answered")] = 30.0,
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
    options = ServingOptions(
        max_batch, max_delay / 1000, max_rows, int(max_body * MEGABYTE), max_requests, timeout, token
    )
    loading = {"name": name, "operating_point": operating_point, "threads": threads, "monitored": monitor}
    loading["non_finite"] = non_finite
    with progress.log():
        serve_folder(folder, host, port, options, **loading)
