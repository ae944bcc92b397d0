"""The application as a deployment of Ray Serve: each replica is the server of one process, and all share one point."""

import asyncio
import dataclasses
import logging
import os
import time
from collections.abc import Awaitable, Callable

import ray
from ray import serve
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.serve import metrics
from ray.serve.config import AutoscalingConfig, BackpressureConfig, DeploymentActorConfig
from ray.serve.schema import LoggingConfig
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from .app import create_app
from .deployed_folder import DeployedFolder
from .metrics import BATCH_ROWS, BATCH_SECONDS, ROWS
from .model import Answered
from .options import READING_SECONDS, TOKEN_VARIABLE

logger = logging.getLogger(__name__)

_HOLDER = "operating_point"
# share of the requests that a replica takes at once beyond which another one is started
_BUSY = 0.25
# requests of health, metadata and figures that a replica takes beside those that `max_requests` counts
_BESIDE = 16
# seconds between two looks of a replica at the point of all
_LOOK_AFTER = 5.0
# seconds after which all replicas know of one that has started
_KNOWN_AFTER = 15.0

#: Without the lines that Ray Serve would write for each request.
QUIET = LoggingConfig(log_level="WARNING", enable_access_log=False)


class PointHolder:
    """Keeps the name of the point that was last switched to, for replicas that start or come back later."""

    def __init__(self) -> None:
        self._name: str | None = None

    def put(self, name: str) -> None:
        """Keep a name."""
        self._name = name

    def agree(self, known: str | None) -> str | None:
        """Return the name; a holder that was lost and has none takes what a replica knows."""
        self._name = self._name or known
        return self._name


@serve.ingress()
class Replica:
    """One server of a model among several.

    Args:
        deployed: What it serves and how.
    """

    def __init__(self, deployed: DeployedFolder):
        self._model, self._options = deployed.load(), deployed.options
        self._told: str | None = None
        self._taking = asyncio.Lock()
        # with Ray's own labels: application, deployment and replica
        self._rows = metrics.Counter(*ROWS, tag_keys=("operating_point", "stage"))
        self._batch_rows, self._batch_seconds = (
            metrics.Histogram(name, description, boundaries=list(bounds))
            for name, description, bounds in (BATCH_ROWS, BATCH_SECONDS)
        )

    async def __serve_build_asgi_app__(self) -> Starlette:
        await self.take_point()
        app = create_app(self._model, self._options, self)
        app.add_middleware(_AskFirst, ask=self.check_health)
        return app

    async def switch(self, name: str) -> None:
        """Let all replicas take a point; returns when those that run have taken it."""
        await _holder().put.remote(name)
        context = serve.get_replica_context()
        everyone = serve.get_deployment_handle(context.deployment, context.app_name)
        for result in await everyone.broadcast("take_point").results_async(return_exceptions=True):
            if isinstance(result, Exception):  # it has gone, or takes the point when it looks again
                logger.warning(f"a replica did not take the operating point '{name}': {result}")

    async def take_point(self) -> None:
        """Take the point of all, if there is one beside the initial point."""
        async with self._taking:  # what was asked later is answered later
            name = await _holder().agree.remote(self._told)
            if name is not None and name != self._told:
                self._model.set_operating_point(name=name)
                self._told = name

    async def check_health(self) -> None:
        """Ray asks for it every few seconds; a replica that was not told of a switch takes the point now."""
        try:
            await self.take_point()
        except (RayError, ValueError) as error:  # while the holder is started anew
            logger.warning(f"the operating point of all replicas is not known for the moment: {error}")

    def count_batch(self, answered: Answered, seconds: float) -> None:
        """Count a batch that was answered."""
        self._batch_rows.observe(len(answered.exit_index))
        self._batch_seconds.observe(seconds)
        for stage, count in self._model.count_stages(answered).items():
            self._rows.inc(count, tags={"operating_point": answered.point, "stage": stage})


class _AskFirst:
    """Asks for the point of all before each request to a replica that others may not know yet, and so not tell.

    Args:
        app: Answers requests.
        ask: Takes the point.
    """

    def __init__(self, app: ASGIApp, ask: Callable[[], Awaitable[None]]):
        self._app, self._ask, self._until = app, ask, time.monotonic() + _KNOWN_AFTER

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and time.monotonic() < self._until:
            await self._ask()
        await self._app(scope, receive, send)


def build_application(deployed: DeployedFolder) -> serve.Application:
    """Return the application of a folder, for ``serve.run`` or as ``import_path`` of a configuration file.

    Args:
        deployed: What is served and how.
    """
    options = deployed.options
    if options.token is None:
        options = dataclasses.replace(options, token=os.environ.get(TOKEN_VARIABLE))
    deployed = deployed.model_copy(update={"options": options})
    scaling = AutoscalingConfig(
        min_replicas=deployed.min_replicas,
        max_replicas=deployed.max_replicas,
        target_ongoing_requests=max(1.0, _BUSY * options.max_requests),
    )
    deployment = serve.deployment(
        Replica,
        autoscaling_config=scaling,
        ray_actor_options={"num_cpus": deployed.threads},
        # the replica itself refuses what is too much; Ray, what comes while all of them are full
        max_ongoing_requests=options.max_requests + _BESIDE,
        max_queued_requests=options.max_requests,
        backpressure_config=BackpressureConfig(status_code=429, retry_after_s=1),
        graceful_shutdown_timeout_s=options.timeout + READING_SECONDS,
        health_check_period_s=_LOOK_AFTER,
        logging_config=QUIET,
        deployment_actors=[
            DeploymentActorConfig(name=_HOLDER, actor_class=ray.remote(PointHolder), actor_options={"num_cpus": 0})
        ],
    )
    return deployment.bind(deployed)


def _holder() -> ActorHandle:
    return serve.get_deployment_actor(_HOLDER)
