"""The application: addresses, limits and answers of HTTP."""

import asyncio
import contextlib
import hmac
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from http import HTTPStatus
from typing import Any, Protocol

import prometheus_client
from pydantic import BaseModel, ConfigDict
from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from ..errors import DynamicExitError, OperatingPointError
from .batch_queue import BatchQueue, Feeds
from .bodies import BodyReader
from .metrics import ServingMetrics
from .model import Answered, ServedFolder, shape_of
from .options import TOKEN_VARIABLE, ServingOptions
from .protocol import LENGTH_HEADER, VERSION, check_finite, metadata, parse_request, write_answer
from .refusals import ClientGone, RequestError, bad_request, parse_body

logger = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Response]]
# bodies above this are taken apart in a thread, so that others are not kept waiting meanwhile
_LARGE_BODY = 100_000
# endpoints whose seconds a latency goal is about
_ANSWERING = ("infer", "classify")
# seconds between looks at whether a client whose request waits is still there
_LOOK_AFTER = 0.25
_CLIENT_GONE = 499


class _Goal(BaseModel):
    """What an operating point is chosen by; exactly one."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: str | None = None
    max_accuracy_drop: float | None = None
    budget: float | None = None


class Peers(Protocol):
    """All servers of one model, where it has several that answer at one address."""

    async def switch(self, name: str) -> None:
        """Let all of them answer at an operating point; returns when they do."""

    def count_batch(self, answered: Answered, seconds: float) -> None:
        """Count a batch that this server answered."""


def create_app(model: ServedFolder, options: ServingOptions | None = None, peers: Peers | None = None) -> Starlette:
    """Return the application that serves a model, for any ASGI server.

    Args:
        model: The model.
        options: Its limits and its token; None takes the defaults.
        peers: Reaches all servers of the model; None: this is the only one.
    """
    return _Server(model, options or ServingOptions(), peers).app


class _Server:
    """Handles requests for one model."""

    def __init__(self, model: ServedFolder, options: ServingOptions, peers: Peers | None):
        self._model, self._options, self._peers = model, options, peers
        self._queue: BatchQueue | None = None
        self._controller = None if options.p99 is None else model.load_controller(options.p99, options)
        if self._controller is not None:
            model.set_operating_point(name=self._controller.gear.point)
        self._metrics = ServingMetrics(model, lambda: 0 if self._queue is None else self._queue.rows, self._controller)
        self._bodies = BodyReader(model, options.max_rows)
        self._requests = 0
        of_model = "/v2/models/{model}"
        routes = [Route("/metrics", self._show_metrics), Route("/v2", self._about_server)]
        routes += [Route(f"/v2/health/{probe}", self._health) for probe in ("live", "ready")]
        for place in (of_model, f"{of_model}/versions/{{version}}"):
            routes += [
                Route(place, self._endpoint("metadata", self._about_model)),
                Route(f"{place}/ready", self._endpoint("ready", self._model_ready)),
                Route(f"{place}/infer", self._endpoint("infer", self._infer), methods=["POST"]),
            ]
        routes += [
            Route("/classify", self._endpoint("classify", self._classify), methods=["POST"]),
            Route("/operating-point", self._endpoint("operating_point", self._show_point), methods=["GET"]),
            Route("/operating-point", self._endpoint("operating_point", self._switch), methods=["PUT"]),
        ]
        self.app = Starlette(
            routes=routes, lifespan=self._lifespan, exception_handlers={HTTPException: self._refuse_address}
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self._queue = BatchQueue(self._run, self._options.max_batch, self._options.max_delay, self._choose_point)
        yield
        await run_in_threadpool(self._queue.close)
        self._queue = None

    def _choose_point(self, rows: int, waited: float) -> int:
        """Switch to the point of the next batch if load decides; returns how many rows go together in it."""
        if self._controller is None:
            return self._options.max_batch
        gear = self._controller.choose(time.monotonic(), rows, waited)
        if gear.point != self._model.operating_point.name:
            self._model.set_operating_point(name=gear.point)
        return gear.batch

    def _run(self, feeds: Feeds) -> Answered:
        began = time.perf_counter()
        answered = self._model.run(feeds)
        seconds = time.perf_counter() - began
        self._metrics.count_batch(answered, seconds)
        if self._peers is not None:
            self._peers.count_batch(answered, seconds)
        if self._controller is not None:
            self._controller.finished(len(answered.exit_index), seconds)
        return answered

    def _endpoint(self, name: str, handler: Handler) -> Handler:
        """Return a handler that answers errors too, and counts requests."""

        async def handle(request: Request) -> Response:
            began = time.perf_counter()
            try:
                response = await handler(request)
            except RequestError as error:
                response = _refusal(error.status, str(error))
            except (ClientGone, ClientDisconnect):
                response = Response(status_code=_CLIENT_GONE)  # which nobody reads
            except DynamicExitError as error:
                response = _refusal(HTTPStatus.BAD_REQUEST, str(error))
            except Exception:
                logger.exception("a request ended in an error")
                response = _refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "the server has an error; its log says which")
            seconds = time.perf_counter() - began
            self._metrics.count_request(name, response.status_code, seconds)
            if self._controller is not None and name in _ANSWERING and response.status_code == HTTPStatus.OK:
                self._controller.answered(time.monotonic(), seconds)
            return response

        return handle

    async def _refuse_address(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        message = f"there is nothing at {request.method} {request.url.path[:100]}; `GET /v2` says what the server has"
        return _refusal(HTTPStatus(error.status_code), message)

    async def _show_metrics(self, request: Request) -> Response:
        if self._peers is not None:
            return _refusal(
                HTTPStatus.NOT_IMPLEMENTED,
                "one of several replicas would answer here, with figures of its own; those of all are in Ray's metrics",
            )
        text = await run_in_threadpool(prometheus_client.generate_latest, self._metrics.registry)
        return Response(text, media_type=prometheus_client.CONTENT_TYPE_LATEST)

    async def _health(self, request: Request) -> Response:
        return Response(status_code=HTTPStatus.OK)

    async def _about_server(self, request: Request) -> Response:
        import dynamic_exit

        extensions = ["binary_tensor_data"]
        names = {"models": [self._model.name], "addresses": ["/v2", "/classify", "/operating-point", "/metrics"]}
        return _json({"name": "dynamic_exit", "version": dynamic_exit.__version__, "extensions": extensions, **names})

    def _check_address(self, request: Request) -> None:
        """Refuse other models and versions than the one there is."""
        name, version = request.path_params["model"], request.path_params.get("version", VERSION)
        if name != self._model.name:
            raise RequestError(
                HTTPStatus.NOT_FOUND, f"there is no model '{name[:100]}'; this server has '{self._model.name}'"
            )
        if version != VERSION:
            raise RequestError(
                HTTPStatus.NOT_FOUND, f"there is no version '{version[:40]}' of '{name}'; there is '{VERSION}'"
            )

    async def _about_model(self, request: Request) -> Response:
        self._check_address(request)
        model = self._model
        inputs = [(spec["name"], spec["dtype"], shape_of(spec)) for spec in model.inputs]
        return _json(metadata(model.name, model.target, inputs, model.classes))

    async def _model_ready(self, request: Request) -> Response:
        self._check_address(request)
        return Response(status_code=HTTPStatus.OK)

    async def _infer(self, request: Request) -> Response:
        self._check_address(request)
        until = time.monotonic() + self._options.timeout
        length, rows = request.headers.get(LENGTH_HEADER), self._options.max_rows
        with self._admitted():
            body = await self._read_body(request, until)
            large = len(body) > _LARGE_BODY
            arguments = (body, length, rows)
            parsed = await run_in_threadpool(parse_request, *arguments) if large else parse_request(*arguments)
            answered = await self._answer(request, self._model.check(parsed.inputs), until)
        content, json_length = write_answer(self._model.name, parsed, answered)
        if json_length is None:
            return Response(content, media_type="application/json")
        return Response(content, headers={LENGTH_HEADER: str(json_length)}, media_type="application/octet-stream")

    async def _classify(self, request: Request) -> Response:
        until = time.monotonic() + self._options.timeout
        kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        with self._admitted():
            body = await self._read_body(request, until)
            began = time.monotonic()
            feeds = await run_in_threadpool(self._bodies.read, kind, body)
            until += time.monotonic() - began  # the first body loads the processor
            answered = await self._answer(request, feeds, until)
        check_finite(answered)
        labels, stages = self._model.labels, self._model.stages
        rows = zip(answered.logits.argmax(1).tolist(), answered.exit_index, answered.confidence.tolist(), strict=True)
        predictions = [
            {"label": labels[index], "index": index, "confidence": confidence, "stage": stages[place]}
            for index, place, confidence in rows
        ]
        return _json({"model_name": self._model.name, "operating_point": answered.point, "predictions": predictions})

    @contextlib.contextmanager
    def _admitted(self) -> Iterator[None]:
        """Count a request, or refuse it where there are too many."""
        if self._requests >= self._options.max_requests:
            raise RequestError(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{self._requests} requests are in work, which is all that this server takes at once; try again later",
            )
        self._requests += 1
        self._metrics.in_flight.inc()
        try:
            yield
        finally:
            self._requests -= 1
            self._metrics.in_flight.dec()

    async def _read_body(self, request: Request, until: float) -> bytes:
        """Read the body of a request up to the limit."""
        limit = self._options.max_body
        too_large = RequestError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the body is larger than {limit} bytes, which is the limit of this server",
        )
        if encoding := request.headers.get("Content-Encoding"):
            raise RequestError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                f"the body is encoded as '{encoding[:40]}'; send it without compression",
            )
        length = request.headers.get("Content-Length", "0")
        if length.isdigit() and int(length[:20]) > limit:
            raise too_large
        parts, size = [], 0
        try:
            async with asyncio.timeout(until - time.monotonic()):
                async for part in request.stream():
                    if (size := size + len(part)) > limit:
                        raise too_large
                    parts.append(part)
        except TimeoutError:
            raise RequestError(
                HTTPStatus.REQUEST_TIMEOUT, f"the body did not arrive within {self._options.timeout:g} s"
            ) from None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _answer(self, request: Request, feeds: Feeds, until: float) -> Answered:
        """Wait for the answer to checked inputs, unless the client hangs up or the time is over."""
        if self._queue is None:
            raise RequestError(HTTPStatus.SERVICE_UNAVAILABLE, "the server stops; send the request to another one")
        if self._controller is not None:
            self._controller.arrived(time.monotonic(), len(next(iter(feeds.values()))))
        answer = asyncio.wrap_future(self._queue.submit(feeds))
        try:
            while True:
                left = until - time.monotonic()
                done, _ = await asyncio.wait([answer], timeout=max(0.0, min(left, _LOOK_AFTER)))
                if done:
                    return answer.result()
                if await request.is_disconnected():
                    raise ClientGone
                if left <= _LOOK_AFTER:
                    raise RequestError(
                        HTTPStatus.GATEWAY_TIMEOUT,
                        f"no answer was there within {self._options.timeout:g} s; try again later",
                    )
        finally:
            answer.cancel()  # also where the server cancels this task; does nothing to one that is done

    async def _show_point(self, request: Request) -> Response:
        return _json({"operating_point": self._model.point_in_use, "known": self._model.point_names})

    async def _switch(self, request: Request) -> Response:
        self._check_token(request)
        if self._controller is not None:
            raise RequestError(
                HTTPStatus.CONFLICT,
                "this server chooses operating points by load, so that nobody else may; start it without --p99",
            )
        body = await self._read_body(request, time.monotonic() + self._options.timeout)
        goal = parse_body(_Goal, body, "the body", "is wrong")
        try:
            point = self._model.set_operating_point(**goal.model_dump(exclude_none=True))
        except OperatingPointError as error:
            raise bad_request(str(error)) from error
        if self._peers is not None:
            await self._peers.switch(point.name)
        logger.info(f"switched to the operating point '{point.name}'")
        return await self._show_point(request)

    def _check_token(self, request: Request) -> None:
        """Refuse whoever does not know the token."""
        if self._options.token is None:
            raise RequestError(
                HTTPStatus.FORBIDDEN,
                f"this server was started without a token, so that nobody may switch it; set {TOKEN_VARIABLE}",
            )
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), self._options.token.encode()):
            raise RequestError(
                HTTPStatus.UNAUTHORIZED, "the token is missing or wrong; send `Authorization: Bearer TOKEN`"
            )


def _json(content: Any, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(to_json(content), status, media_type="application/json")


def _refusal(status: HTTPStatus, message: str) -> Response:
    response = _json({"error": message}, status)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        response.headers["Retry-After"] = "1"
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response
