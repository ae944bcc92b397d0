"""Requests and answers of the Open Inference Protocol, version 2, with its extension for binary tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from ..errors import nearest
from .model import Answered, is_finite
from .refusals import bad_request, parse_body
from .tensors import datatype_of, from_bytes, from_json

#: Header that says how many bytes of a body are JSON; tensors in binary follow them.
LENGTH_HEADER = "Inference-Header-Content-Length"
OUTPUTS = ("logits", "exit_index", "confidence")
VERSION = "1"


# a message repeats no more than this
_Name = Annotated[str, Field(max_length=200)]
_Size = Annotated[int, Field(ge=0, lt=2**31)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True)


class _Tensor(_Part):
    name: _Name
    shape: list[_Size] = Field(min_length=1, max_length=16)
    datatype: _Name
    parameters: dict[str, Any] = {}
    data: Any = None


class _Output(_Part):
    name: _Name
    parameters: dict[str, Any] = {}


class _Request(_Part):
    id: _Name | None = None
    parameters: dict[str, Any] = {}
    inputs: list[_Tensor] = Field(min_length=1, max_length=64)
    outputs: list[_Output] | None = Field(None, max_length=64)


@dataclass(frozen=True)
class InferenceRequest:
    """A request, taken apart.

    Attributes:
        id: What the client calls it, which its answer repeats.
        inputs: Tensors by name.
        outputs: Name of an output -> whether it is wanted in binary.
    """

    id: str | None
    inputs: dict[str, np.ndarray]
    outputs: dict[str, bool]


def parse_request(body: bytes, header_length: str | None, max_rows: int) -> InferenceRequest:
    """Take a request apart.

    Args:
        body: Its body: JSON, and after it the binary tensors.
        header_length: Bytes of JSON, as the header `LENGTH_HEADER` says; None: the body is JSON alone.
        max_rows: Rows that it may have.

    Returns:
        The request; whether its inputs suit the model is not checked here.

    Raises:
        RequestError: It breaks the protocol.
    """
    length = len(body)
    if header_length is not None:
        if not (header_length.isascii() and header_length.isdigit() and len(header_length) < 19):
            raise bad_request(f"the header {LENGTH_HEADER} must be a number of bytes")
        if (length := int(header_length)) > len(body):
            raise bad_request(f"the header {LENGTH_HEADER} says {length} bytes of JSON, and the body has {len(body)}")
    request = parse_body(_Request, body[:length], "the request", "breaks the protocol")
    inputs: dict[str, np.ndarray] = {}
    binary, place = memoryview(body), length
    for tensor in request.inputs:
        if tensor.name in inputs:
            raise bad_request(f"input '{tensor.name}' came in twice; give it once")
        if not 1 <= tensor.shape[0] <= max_rows:
            raise bad_request(
                f"input '{tensor.name}' has {tensor.shape[0]} rows; this server takes 1 to {max_rows} in a request"
            )
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            inputs[tensor.name] = from_json(tensor.name, tensor.datatype, tensor.shape, tensor.data)
            continue
        if type(size) is not int or not 0 <= size <= len(body) - place or tensor.data is not None:
            raise bad_request(
                f"input '{tensor.name}' has a binary_data_size that the body does not hold, or data in JSON beside it"
            )
        inputs[tensor.name] = from_bytes(tensor.name, tensor.datatype, tensor.shape, binary[place : place + size])
        place += size
    if place != len(body):
        raise bad_request(f"{len(body) - place} bytes follow the last binary tensor; give binary_data_size for each")
    return InferenceRequest(request.id, inputs, _wanted(request))


def _wanted(request: _Request) -> dict[str, bool]:
    """Return the outputs that a request wants, and whether in binary."""
    everything = _flag(request.parameters, "binary_data_output")
    if not request.outputs:
        return dict.fromkeys(OUTPUTS, everything)
    for each in request.outputs:
        if each.name not in OUTPUTS:
            raise bad_request(f"there is no output '{each.name}'; {nearest(each.name, OUTPUTS)}")
        if "classification" in each.parameters:
            raise bad_request(
                "classes cannot be asked of outputs here; take the largest of logits, or POST to /classify"
            )
    return {each.name: _flag(each.parameters, "binary_data", everything) for each in request.outputs}


def _flag(parameters: dict[str, Any], name: str, default: bool = False) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise bad_request(f"the parameter {name} must be true or false")
    return value


def write_answer(model: str, request: InferenceRequest, answered: Answered) -> tuple[bytes, int | None]:
    """Write the answer to a request.

    Args:
        model: Name of the model.
        request: The request.
        answered: Its rows.

    Returns:
        The body, and how many bytes of it are JSON if binary tensors follow.

    Raises:
        RequestError: A number is not finite, which JSON cannot say.
    """
    outputs: list[dict[str, Any]] = []
    binary: list[bytes] = []
    for name, in_binary in request.outputs.items():
        array: np.ndarray = getattr(answered, name)
        output: dict[str, Any] = {"name": name, "datatype": datatype_of(array.dtype), "shape": list(array.shape)}
        if in_binary:
            binary.append(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
            output["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            output["data"] = array.ravel().tolist()
        outputs.append(output)
    if not all(request.outputs.values()):
        check_finite(answered)
    head = {"model_name": model, "model_version": VERSION, "parameters": {"operating_point": answered.point}}
    if request.id is not None:
        head["id"] = request.id
    text = to_json({**head, "outputs": outputs})
    return b"".join((text, *binary)), len(text) if binary else None


def check_finite(answered: Answered) -> None:
    """Check that answers can be written as JSON.

    Raises:
        RequestError: A number is not finite.
    """
    if not is_finite(answered):
        raise bad_request(
            "an answer is not a finite number, which JSON cannot say; check the inputs, or ask for binary"
        )


def metadata(model: str, target: str, inputs: Sequence[tuple[str, str, list[int]]], classes: int) -> dict[str, Any]:
    """Return what the protocol says of a model.

    Args:
        model: Its name.
        target: What runs it.
        inputs: Name, NumPy's name of the type, and shape of each input, with -1 for what is free.
        classes: Number of classes.
    """
    outputs = {"logits": ("FP32", [-1, classes]), "exit_index": ("INT64", [-1]), "confidence": ("FP32", [-1])}
    return {
        "name": model,
        "versions": [VERSION],
        "platform": f"{target}_dynamic_exit",
        "inputs": [{"name": name, "datatype": datatype_of(dtype), "shape": shape} for name, dtype, shape in inputs],
        "outputs": [{"name": name, "datatype": kind, "shape": shape} for name, (kind, shape) in outputs.items()],
    }
