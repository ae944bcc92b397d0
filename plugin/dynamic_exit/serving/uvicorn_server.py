"""uvicorn as it runs the application."""

import uvicorn

from .app import create_app
from .model import ServedFolder
from .options import IDLE_SECONDS, READING_SECONDS, ServingOptions


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
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=int(options.timeout) + READING_SECONDS,
    )
    return uvicorn.Server(config)
