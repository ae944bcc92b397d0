"""uvicorn as it runs the application."""

import uvicorn

from .app import create_app
from .model import ServedFolder
from .options import ServingOptions

# seconds beyond the time-out of requests that clients have to read their last answers
_READING_SECONDS = 5
# longer than clients keep connections that they do not use, so that it is not the server who closes one in use
_IDLE_SECONDS = 75


def make_server(model: ServedFolder, options: ServingOptions) -> uvicorn.Server:
    """Return a server that is not started; it stops on a signal, or once `should_exit` is set, when all is answered.

    Args:
        model: The model.
        options: Limits and token.
    """
    config = uvicorn.Config(
        create_app(model, options),
        log_config=None,
        access_log=False,
        ws="none",
        lifespan="on",
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=int(options.timeout) + _READING_SECONDS,
    )
    return uvicorn.Server(config)
