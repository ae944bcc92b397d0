"""Requests that are refused: one sentence with a status of HTTP."""

from http import HTTPStatus
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from ..errors import DynamicExitError

Body = TypeVar("Body", bound=BaseModel)


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


def parse_body(kind: type[Body], text: bytes, name: str, wrong: str) -> Body:
    """Return what a JSON text says, checked.

    Args:
        kind: Its schema.
        text: The text.
        name: What it is called in messages.
        wrong: What it does where it breaks the schema.

    Raises:
        RequestError: It is no JSON, or breaks the schema.
    """
    try:
        return kind.model_validate(from_json(text, allow_inf_nan=False))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "its top"
        raise bad_request(f"{name} {wrong} at {where[:80]}: {first['msg']}") from None
    except ValueError as error:
        raise bad_request(f"{name} is no JSON: {error}") from None
