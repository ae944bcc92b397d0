"""Requests that are refused: one sentence with a status of HTTP."""

from http import HTTPStatus

from ..errors import DynamicExitError


class RequestError(DynamicExitError):
    """A request that cannot be answered.

    Args:
        status: Of HTTP.
        message: One sentence.
    """

    def __init__(self, status: HTTPStatus, message: str):
        super().__init__(message)
        self.status = status


class ClientGone(Exception):
    """The client hung up before its answer was there."""


def bad_request(message: str) -> RequestError:
    """Return the refusal of a request that is malformed, or does not suit the model."""
    return RequestError(HTTPStatus.BAD_REQUEST, message)
