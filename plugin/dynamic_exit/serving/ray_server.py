"""Serves a folder on Ray Serve until a signal ends it."""

import contextlib
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..core import signals
from ..errors import ServingError, first_line
from .options import IDLE_SECONDS, ServingOptions
from .ray_runtime import ADDRESS_VARIABLE, import_ray, not_installed, running_ray
from .server import announce, listen

if TYPE_CHECKING:
    from .deployed_folder import DeployedFolder

# the name that Ray Serve gives what is alone
_APPLICATION = "default"
# else the one proxy leaves other nodes idle until replicas on its own are full; it inherits variables of the controller
_ROUTING = {"runtime_env": {"env_vars": {"RAY_SERVE_PROXY_PREFER_LOCAL_NODE_ROUTING": "0"}}}


def serve_on_ray(
    folder: Path, host: str, port: int, options: ServingOptions, replicas: tuple[int, int], **loading: object
) -> None:
    """Serve a folder on Ray Serve until SIGTERM or Ctrl-C: on the cluster that ``RAY_ADDRESS`` names, else here.

    Args:
        folder: A folder that ``dynamic-exit run`` wrote, at the same path on every machine of the cluster.
        host: Name or address to listen at, on the head node.
        port: Port, 0 for any that is free; the line that is printed says which.
        options: Limits of each replica, and the token.
        replicas: How many run always, and at most.
        **loading: `name`, `operating_point`, `threads` and `non_finite`, as for `DeployedFolder`.

    Raises:
        ServingError: What it needs is not installed, the port cannot be had, Ray does not start, or the cluster has
            too few processors or serves something already.
        DynamicExitError: The folder cannot be loaded.
    """
    import_ray()
    try:
        from .app import create_app
        from .deployed_folder import DeployedFolder
    except ModuleNotFoundError as error:
        raise not_installed(error) from error

    with listen(host, port) as listener:
        address = listener.getsockname()[:2]
    deployed = DeployedFolder(
        folder=str(folder.absolute()),
        min_replicas=replicas[0],
        max_replicas=replicas[1],
        options=options,
        **{name: value for name, value in loading.items() if value is not None},
    )
    model = deployed.load()
    create_app(model, options)  # what is refused is refused before Ray starts, which takes seconds
    name, point = model.name, model.operating_point.name
    del model  # its memory is not needed here
    with _ray(deployed, address), signals.advise_on_interrupt(lambda: "stopped; all replicas have been stopped"):
        announce(name, address, point)
        threading.Event().wait()


@contextlib.contextmanager
def _ray(deployed: "DeployedFolder", address: tuple[str, int]) -> Iterator[None]:
    """Run the application while the block does, and whatever of Ray it needs."""
    from ray import serve

    from .ray_application import QUIET, build_application

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    with running_ray() as cluster:
        _check_cluster(deployed, cluster)
        host, port = address
        http = {"host": host, "port": port, "keep_alive_timeout_s": IDLE_SECONDS}
        serve.start("HeadOnly", http, logging_config=QUIET, controller_options=_ROUTING)
        try:
            try:
                serve.run(build_application(deployed), name=_APPLICATION)
            except RuntimeError as error:
                raise ServingError(f"Ray Serve cannot run the application: {first_line(error)}") from error
            yield
        finally:
            serve.delete(_APPLICATION)  # replicas answer what they have accepted
            serve.shutdown()


def _check_cluster(deployed: "DeployedFolder", cluster: str | None) -> None:
    """Refuse a cluster that serves something else, and more replicas than this machine has processors for."""
    import ray
    from ray import serve

    status = serve.status()
    if status.proxies or status.applications:
        raise ServingError(
            f"the cluster '{cluster}' has Ray Serve running; add the application to its configuration, or shut it down "
            "with `serve shutdown`"
        )
    processors, needed = int(ray.cluster_resources().get("CPU", 0)), deployed.max_replicas * deployed.threads
    if not cluster and needed > processors:
        raise ServingError(
            f"{deployed.max_replicas} replicas of {deployed.threads} threads need {needed} processors, and this "
            f"machine has {processors}; give fewer --replicas or --threads, or a cluster in {ADDRESS_VARIABLE}"
        )
