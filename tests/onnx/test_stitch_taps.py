"""Exits that read taps of earlier positions: the stitched file against the model that drives its single parts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from dynamic_exit.onnx.model_parts import ModelParts
from dynamic_exit.onnx.part import BATCH, OUTPUT, Part
from dynamic_exit.onnx.session import PartSession, open_session
from dynamic_exit.onnx.stitch import stitch
from dynamic_exit.onnx.verification import compare
from dynamic_exit.runtime.model import DynamicExitModel

INF = float("inf")
CLASSES = 4


def part(name, takes, gives, before, width):
    """A part that multiplies all that comes in by a fixed matrix; hidden states and taps are bounded."""
    weight = np.random.default_rng(len(name) + sum(before)).normal(size=(sum(before), width)).astype(np.float32)
    nodes = [
        helper.make_node("Concat", list(takes), ["all"], axis=1),
        helper.make_node("MatMul", ["all", "w"], ["sum"]),
    ]
    nodes.append(helper.make_node("Identity" if gives == "logits" else "Tanh", ["sum"], [OUTPUT]))
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(*each) for each in _values(takes, before)],
        [helper.make_tensor_value_info(*each) for each in _values([OUTPUT], [width])],
        [numpy_helper.from_array(weight, "w")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return Part(name, proto, tuple(takes), gives)


def _values(names, sizes):
    return [(name, TensorProto.FLOAT, [BATCH, size]) for name, size in zip(names, sizes, strict=True)]


def chain(fuse, saver):
    """Four segments; no exit behind the first, so that its tap runs on the way; two exits behind the second."""
    segments = [
        part("s0", ["x"], "hidden", [6], 8),
        part("s1", ["hidden"], "hidden", [8], 5),
        part("s2", ["hidden"], "hidden", [5], 8),
        part("s3", ["hidden"], "logits", [8], CLASSES),
    ]
    first = 3 if saver else 0
    savers = [part("small", ["x"], "logits", [6], CLASSES), part("large", ["x"], "logits", [6], CLASSES)]
    heads = [
        (part("1:seeing", ["memory"], "logits", [first + 4], CLASSES), 1),
        (part("1:plain", ["hidden"], "logits", [5], CLASSES), 1),
        (part("2:seeing", ["hidden", "memory"], "logits", [8, first + 6], CLASSES), 2),
    ]
    taps = {0: part("n0", ["hidden"], "memory", [8], 2), 1: part("n1", ["hidden"], "memory", [5], 2)}
    taps[2] = part("n2", ["hidden"], "memory", [8], 2)
    if saver:
        taps = {-1: part("ns", ["logits"], "memory", [CLASSES], 3), **taps}
    return ModelParts(savers if saver else [], segments, heads, fuse, taps)


def stitched(parts, thresholds):
    return open_session(stitch(parts, parts.segments[0].proto.graph.input, CLASSES, thresholds, {}), threads=1)


@pytest.fixture(scope="module", params=[("none", True), ("mean", True), ("none", False)], ids=str)
def pair(request):
    parts = chain(*request.param)
    model = DynamicExitModel(
        [PartSession(each) for each in parts.segments],
        input_names=["x"],
        savers={each.name: PartSession(each) for each in parts.savers},
        exits={each.name: (at, PartSession(each)) for each, at in parts.exits},
        fuse=parts.fuse,
        taps={at: PartSession(each) for at, each in parts.taps.items()},
    )
    return model, stitched(parts, [0.5] * len(model.chain))


@settings(max_examples=30, deadline=None)
@given(
    thresholds=st.lists(
        st.one_of(st.floats(0.25, 0.75, width=32), st.sampled_from([INF, 1.0])), min_size=5, max_size=5
    ),
    rows=st.integers(1, 12),
    size=st.integers(1, 12),
    seed=st.integers(0, 100),
)
def test_the_file_answers_as_its_parts_do(pair, thresholds, rows, size, seed):
    model, session = pair
    x = np.random.default_rng(seed).normal(size=(rows, 6)).astype(np.float32) * 2
    points = [np.asarray(thresholds[-len(model.chain) :], np.float32)]
    found = compare(model, session, {"x": x}, points, size)
    assert (found.exits_apart, found.predictions_apart) == (0, 0)
    assert found.largest_difference < 1e-4


def failing(tap):
    """The same part, which onnxruntime cannot run: it reshapes its rows into a thousand of 7 first."""
    proto = type(tap.proto)()
    proto.CopyFrom(tap.proto)
    node = proto.graph.node[0]
    proto.graph.initializer.append(numpy_helper.from_array(np.asarray([1000, 7], np.int64), "wrong"))
    proto.graph.node.insert(0, helper.make_node("Reshape", [node.input[0], "wrong"], ["broken"], name="broken"))
    proto.graph.node.insert(1, helper.make_node("Slice", ["broken", "zero", "size", "one"], ["cut"], name="cut"))
    for name, value in (("zero", 0), ("size", 5), ("one", 1)):
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray([value], np.int64), name))
    proto.graph.node[2].input[0] = "cut"
    return tap.with_proto(proto)


def test_taps_that_no_exit_in_use_reads_do_not_run():
    parts = chain("none", True)
    taps = dict(parts.taps)
    taps[1] = failing(taps[1])
    session = stitched(ModelParts(parts.savers, parts.segments, parts.exits, "none", taps), [0.5] * 5)
    x = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    for thresholds in ([INF] * 5, [1.0, 1.0, INF, 1.0, INF]):
        exits = session.run(None, {"x": x, "thresholds": np.asarray(thresholds, np.float32)})[1]
        assert (exits == 5).all()
    with pytest.raises(Exception, match="eshape"):
        session.run(None, {"x": x, "thresholds": np.asarray([1.0] * 5, np.float32)})


def test_a_file_without_an_exit_that_sees_them_holds_no_taps():
    parts = chain("none", True)
    kept = [parts.exits[0], parts.exits[1]]
    shorter = stitch(
        ModelParts(parts.savers, parts.segments, kept, "none", parts.taps),
        parts.segments[0].proto.graph.input, CLASSES, [0.5] * 4, {},
    ).SerializeToString()  # fmt: skip
    assert b"n1:" in shorter
    assert b"n2:" not in shorter
    none = ModelParts(parts.savers, parts.segments, [parts.exits[1]], "none", parts.taps)
    plain = ModelParts(parts.savers, parts.segments, [parts.exits[1]], "none")
    files = [stitch(each, each.segments[0].proto.graph.input, CLASSES, [0.5] * 3, {}) for each in (none, plain)]
    assert files[0] == files[1]
