"""Bodies of the protocol: what is read, what is refused and in which words, and that nothing else comes of any body."""

import json
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynamic_exit.serving import Answered
from dynamic_exit.serving.protocol import InferenceRequest, parse_request, write_answer
from dynamic_exit.serving.refusals import RequestError
from dynamic_exit.serving.tensors import DTYPES

NAMES = [*DTYPES]
#: For a longer trial: `DYNAMIC_EXIT_FUZZ=20000 python -m pytest tests/serving/test_protocol.py`.
EXAMPLES = int(os.environ.get("DYNAMIC_EXIT_FUZZ", "200"))


def body(**changes):
    """A request for two rows of three numbers, with changes of its tensor."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, 3], "data": [1, 2, 3, 4, 5, 6.5], **changes}
    return {"inputs": [{name: value for name, value in tensor.items() if value is not None}]}


def parsed(request, binary=b"", length=None):
    text = json.dumps(request).encode()
    header = length if length is not None else str(len(text)) if binary else None
    return parse_request(text + binary, header, max_rows=100)


@pytest.mark.parametrize("datatype", NAMES)
def test_json_in_a_row_nested_and_binary_give_the_same_tensor(datatype):
    values = np.array([[0, 1, 1], [1, 0, 1]]).astype(DTYPES[datatype])
    flat, nested = values.ravel().tolist(), values.tolist()
    binary = body(datatype=datatype, data=None, parameters={"binary_data_size": values.nbytes})
    for request in (
        parsed(body(datatype=datatype, data=flat)),
        parsed(body(datatype=datatype, data=nested)),
        parsed(binary, values.tobytes()),
    ):
        assert request.inputs["x"].dtype == values.dtype and np.array_equal(request.inputs["x"], values)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ([], "the request breaks the protocol at its top: Input should be a valid dictionary or instance of _Request"),
        ({}, "the request breaks the protocol at inputs: Field required"),
        ({"inputs": []}, "the request breaks the protocol at inputs: List should have at least 1 item"),
        (body(shape=[2, -3]), "the request breaks the protocol at inputs.0.shape.1: Input should be greater than"),
        (body(shape=[2, 1.0]), "the request breaks the protocol at inputs.0.shape.1: Input should be a valid integer"),
        (body(datatype="FLOAT"), "input 'x' is of the datatype 'FLOAT'; known are BOOL, UINT8, "),
        (body(data=[1, 2]), "input 'x' of shape [2, 3] takes 6 numbers; got 2"),
        (body(data=None), "input 'x' has no list as its data; give one, or binary data with its size"),
        (body(data=[[1, 2], [3, 4, 5, 6]]), "input 'x' of shape [2, 3] has lists of other lengths in its data"),
        (body(data=[[1, 2, 3], "abc"]), "input 'x' of shape [2, 3] has lists of other lengths in its data"),
        (body(data=["1"] * 6), "input 'x' of datatype FP32 has what is no number in its data"),
        (body(data=[None] * 6), "input 'x' of datatype FP32 has what is no number in its data"),
        (body(data=[True] * 6), "input 'x' of datatype FP32 has true or false in its data"),
        (body(datatype="INT8", data=[1.5] * 6), "input 'x' of datatype INT8 has fractions in its data"),
        (body(datatype="UINT8", data=[300] * 6), "input 'x' has numbers that do not fit the datatype UINT8"),
        (body(datatype="BOOL", data=[1] * 6), "input 'x' of datatype BOOL has whole numbers in its data"),
        (body(data=[1e300] * 6), "input 'x' has numbers that do not fit the datatype FP32"),
        (body(shape=[0, 3], data=[]), "input 'x' has 0 rows; this server takes 1 to 100 in a request"),
        (body(shape=[200, 3]), "input 'x' has 200 rows; this server takes 1 to 100 in a request"),
        ({"inputs": body()["inputs"] * 2}, "input 'x' came in twice; give it once"),
        ({**body(), "outputs": [{"name": "logit"}]}, "there is no output 'logit'; did you mean 'logits'?"),
        (
            {**body(), "outputs": [{"name": "logits", "parameters": {"classification": 2}}]},
            "classes cannot be asked of outputs here; take the largest of logits, or POST to /classify",
        ),
        ({**body(), "parameters": {"binary_data_output": 1}}, "the parameter binary_data_output must be true or false"),
        ({**body(), "id": "i" * 300}, "the request breaks the protocol at id: String should have at most 200"),
        (body(parameters={"binary_data_size": 24}), "input 'x' has a binary_data_size that the body does not hold"),
    ],
    ids=lambda value: None if isinstance(value, str) else "",
)
def test_a_request_that_breaks_the_protocol_is_refused_in_a_sentence(request_, message):
    with pytest.raises(RequestError) as refused:
        parsed(request_)
    assert str(refused.value).startswith(message) and refused.value.status == 400


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "the request is no JSON: EOF while parsing a value at line 1 column 0"),
        (b'{"inputs": NaN}', "the request is no JSON: expected value"),
        (b"\xff\xfe", "the request is no JSON: expected value"),
        (b"[" * 100_000, "the request is no JSON: recursion limit exceeded"),
    ],
    ids=["empty", "not a number", "bytes", "deep"],
)
def test_what_is_no_json_is_refused(text, message):
    with pytest.raises(RequestError) as refused:
        parse_request(text, None, 100)
    assert str(refused.value).startswith(message)


def test_binary_data_must_fill_its_shape_and_the_body():
    whole = body(data=None, parameters={"binary_data_size": 24})
    for request, binary, length, message in [
        (whole, bytes(24), "-1", "the header Inference-Header-Content-Length must be a number of bytes"),
        (whole, bytes(24), "1" * 30, "the header Inference-Header-Content-Length must be a number of bytes"),
        (
            whole,
            bytes(24),
            "99999",
            "the header Inference-Header-Content-Length says 99999 bytes of JSON, and the body",
        ),
        (whole, bytes(20), None, "input 'x' has a binary_data_size that the body does not hold"),
        (whole, bytes(28), None, "4 bytes follow the last binary tensor; give binary_data_size for each"),
        (
            body(data=None, parameters={"binary_data_size": 20}),
            bytes(20),
            None,
            "input 'x' of shape [2, 3] as FP32 takes",
        ),
        (
            body(data=None, parameters={"binary_data_size": True}),
            bytes(1),
            None,
            "input 'x' has a binary_data_size that",
        ),
        (
            body(parameters={"binary_data_size": 24}),
            bytes(24),
            None,
            "input 'x' has a binary_data_size that the body does",
        ),
        (
            body(data=None, datatype="BOOL", parameters={"binary_data_size": 6}),
            bytes([2] * 6),
            None,
            "input 'x' of datatype BOOL has bytes other than 0 and 1",
        ),
    ]:
        with pytest.raises(RequestError) as refused:
            parsed(request, binary, length)
        assert str(refused.value).startswith(message)


def answered(rows=2):
    return Answered(
        np.arange(3 * rows, dtype=np.float32).reshape(rows, 3) / 3, np.arange(rows), np.ones(rows, np.float32), "here"
    )


def test_an_answer_has_what_was_asked_for_in_json_and_in_binary():
    text, length = write_answer("m", InferenceRequest("7", {}, {"logits": False, "confidence": True}), answered())
    head = json.loads(text[:length])
    assert head["id"] == "7" and head["parameters"] == {"operating_point": "here"} and head["model_version"] == "1"
    logits, confidence = head["outputs"]
    assert np.array_equal(np.float32(logits["data"]).reshape(logits["shape"]), answered().logits)
    assert confidence["parameters"] == {"binary_data_size": 8} and "data" not in confidence
    assert np.array_equal(np.frombuffer(text[length:], "<f4"), answered().confidence)


def test_an_answer_that_json_cannot_say_is_refused_and_can_be_had_in_binary():
    odd = answered()._replace(logits=np.full((2, 3), np.nan, np.float32))
    with pytest.raises(RequestError, match="an answer is not a finite number, which JSON cannot say"):
        write_answer("m", InferenceRequest(None, {}, {"logits": False}), odd)
    text, length = write_answer("m", InferenceRequest(None, {}, {"logits": True}), odd)
    assert np.isnan(np.frombuffer(text[length:], "<f4")).all()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
SHAPES = st.lists(st.integers(-1, 5) | st.integers(), max_size=4)
TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("x") | VALUES,
        "datatype": st.sampled_from(NAMES) | VALUES,
        "shape": st.just([2, 3]) | SHAPES | VALUES,
        "data": st.lists(st.integers(0, 1), min_size=6, max_size=6) | VALUES,
        "parameters": st.dictionaries(st.just("binary_data_size"), st.integers(-1, 50) | VALUES) | VALUES,
    },
)
REQUESTS = st.fixed_dictionaries(
    {"inputs": st.lists(TENSORS, min_size=1, max_size=2) | VALUES},
    optional={"id": VALUES, "parameters": VALUES, "outputs": st.lists(VALUES, max_size=2) | VALUES},
)
BODIES = st.binary(max_size=60).map(lambda content: (content, None)) | st.tuples(
    REQUESTS.map(lambda request: json.dumps(request).encode()), st.binary(max_size=40)
).flatmap(
    lambda parts: st.tuples(
        st.just(b"".join(parts)),
        st.none() | st.just(str(len(parts[0]))) | st.integers(-5, 500).map(str) | st.text(max_size=4),
    )
)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(BODIES)
def test_any_body_is_read_or_refused_in_one_short_sentence(given_):
    content, length = given_
    try:
        request = parse_request(content, length, 100)
    except RequestError as refused:
        assert refused.status == 400 and len(str(refused)) < 1000 and "\n" not in str(refused)
    else:
        assert all(1 <= len(array) <= 100 for array in request.inputs.values())
