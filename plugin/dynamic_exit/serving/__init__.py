"""An HTTP server for a written folder, in one process: the Open Inference Protocol, pictures and texts, Prometheus.

It needs the extra `serving`; pictures and texts need the extra `serve` too.
"""

from typing import TYPE_CHECKING

from ..core.lazy import lazy_exports

if TYPE_CHECKING:
    from .app import create_app
    from .batch_queue import BatchQueue
    from .model import Answered, ServedFolder
    from .options import ServingOptions, WatchOptions
    from .server import serve
    from .triton import write_triton_model

__all__ = [
    "Answered",
    "BatchQueue",
    "ServedFolder",
    "ServingOptions",
    "WatchOptions",
    "create_app",
    "serve",
    "write_triton_model",
]

# on first use: Starlette and uvicorn are no dependency of the package
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "app": ("create_app",),
        "batch_queue": ("BatchQueue",),
        "model": ("Answered", "ServedFolder"),
        "options": ("ServingOptions", "WatchOptions"),
        "server": ("serve",),
        "triton": ("write_triton_model",),
    },
)
