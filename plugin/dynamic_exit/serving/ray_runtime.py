"""Ray, running as long as it is needed."""

import contextlib
import logging
import os
import signal
from collections.abc import Iterator

from ..errors import ServingError, first_line

#: Environment variable of Ray that names a cluster.
ADDRESS_VARIABLE = "RAY_ADDRESS"


def import_ray() -> None:
    """Import Ray, so that nothing is sent to its makers.

    Raises:
        ServingError: It is not installed.
    """
    # read by the processes of Ray when they start
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray  # noqa: F401
    except ModuleNotFoundError as error:
        raise not_installed(error) from error


def not_installed(error: ModuleNotFoundError) -> ServingError:
    """Return the error for a package that is missing."""
    return ServingError(f"--ray needs {error.name}, which is not installed; install the extra `ray`")


@contextlib.contextmanager
def running_ray() -> Iterator[str | None]:
    """Connect to the cluster that ``RAY_ADDRESS`` names, or run one here while the block does.

    Yields:
        The address of the cluster; None for one here.

    Raises:
        ServingError: It does not start or answer.
    """
    import ray

    cluster = os.environ.get(ADDRESS_VARIABLE)
    handler = signal.getsignal(signal.SIGTERM)
    own = {} if cluster else {"include_dashboard": False}
    try:
        try:
            ray.init(cluster or "local", logging_level=logging.WARNING, log_to_driver=False, **own)
        except (OSError, RuntimeError, ValueError) as error:
            where = f"the cluster that {ADDRESS_VARIABLE} names, '{cluster}'," if cluster else "Ray"
            raise ServingError(f"{where} does not start or answer: {first_line(error)}") from error
        finally:
            signal.signal(signal.SIGTERM, handler)  # Ray puts its own there
        yield cluster
    finally:
        ray.shutdown()
