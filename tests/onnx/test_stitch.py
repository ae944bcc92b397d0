"""The stitched file against the plain rule, row by row; parts are small ONNX models whose answers are known."""

import json

import numpy as np
import onnx
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from dynamic_exit.errors import ExportError
from dynamic_exit.onnx.model_parts import ModelParts
from dynamic_exit.onnx.part import BATCH, OUTPUT, Part
from dynamic_exit.onnx.session import PartSession, open_session
from dynamic_exit.onnx.stitch import stitch
from dynamic_exit.runtime.model import DynamicExitModel

FEATURES, CLASSES = 3, 4
INF = float("inf")


def linear(name: str, gives: str, seed: int, takes: str = "x", rows: int = FEATURES) -> Part:
    """A part that multiplies by a fixed matrix."""
    columns = CLASSES if gives == "logits" else FEATURES
    weight = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32) * 2
    return _part(name, takes, gives, columns, [helper.make_node("MatMul", [takes, "w"], [OUTPUT])], {"w": weight})


def failing(name: str, gives: str, takes: str = "x") -> Part:
    """A part that onnxruntime cannot run, whatever it gets: it reshapes rows of 3 into rows of 7 times 1000 rows."""
    columns = CLASSES if gives == "logits" else FEATURES
    nodes = [
        helper.make_node("Reshape", [takes, "shape"], ["big"]),
        helper.make_node("Slice", ["big", "zero", "columns", "one"], [OUTPUT]),
    ]
    values = {"shape": [1000, 7], "zero": [0], "columns": [columns], "one": [1]}
    return _part(name, takes, gives, columns, nodes, {key: np.asarray(v, np.int64) for key, v in values.items()})


def _part(name, takes, gives, columns, nodes, weights) -> Part:
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(takes, TensorProto.FLOAT, [BATCH, FEATURES])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [BATCH, columns])],
        [numpy_helper.from_array(value, key) for key, value in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return Part(name, proto, (takes,), gives)


def build(chain: ModelParts, thresholds, **metadata) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [BATCH, FEATURES])]
    return stitch(chain, inputs, CLASSES, thresholds, metadata)


def full_chain(fuse: str = "none") -> ModelParts:
    segments = [
        linear("s0", "hidden", 1),
        linear("s1", "hidden", 2, "hidden"),
        linear("s2", "hidden", 3, "hidden"),
        linear("s3", "logits", 4, "hidden"),
    ]
    exits = [(linear("e0", "logits", 5, "hidden"), 0), (linear("e2", "logits", 6, "hidden"), 2)]
    return ModelParts([linear("a", "logits", 7), linear("b", "logits", 8)], segments, exits, fuse)


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def by_hand(chain: ModelParts, row: np.ndarray, thresholds) -> tuple[np.ndarray, int, float]:
    """The rule for one row, with every part run alone."""
    seen, index = [], 0

    def offer(logits, threshold):
        seen.append(softmax(logits))
        evidence = np.mean(seen, axis=0) if chain.fuse.rule == "mean" else seen[-1]
        answer = np.log(np.maximum(evidence, np.finfo(np.float32).tiny)) if chain.fuse.rule == "mean" else logits
        assume(abs(evidence.max() - threshold) > 1e-5)  # rounding decides there
        return (answer, float(evidence.max())) if evidence.max() > threshold else None

    def run(part, value):
        return PartSession(part).run(value[None])[0]

    hidden, heads = row, {position: head for head, position in chain.exits}
    for saver in chain.savers:
        found = offer(run(saver, row), thresholds[index]) if thresholds[index] < INF else None
        if found:
            return found[0], index, found[1]
        index += 1
    for position, segment in enumerate(chain.segments):
        hidden = run(segment, hidden)
        if position in heads:
            found = offer(run(heads[position], hidden), thresholds[index]) if thresholds[index] < INF else None
            if found:
                return found[0], index, found[1]
            index += 1
    answer, confidence = offer(hidden, -INF)
    return answer, index, confidence


@pytest.fixture(scope="module", params=["none", "mean"])
def stitched(request):
    chain = full_chain(request.param)
    return chain, open_session(build(chain, [0.5] * 4), threads=1)


@settings(max_examples=25, deadline=None)
@given(
    thresholds=st.lists(st.one_of(st.floats(0.25, 1.0, width=32), st.just(INF)), min_size=4, max_size=4),
    rows=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_every_row_leaves_where_the_rule_says(stitched, thresholds, rows, seed):
    chain, session = stitched
    x = np.random.default_rng(seed).normal(size=(rows, FEATURES)).astype(np.float32)
    logits, exit_index, confidence = session.run(None, {"x": x, "thresholds": np.asarray(thresholds, np.float32)})
    for i, row in enumerate(x):
        answer, index, sure = by_hand(chain, row, thresholds)
        assert exit_index[i] == index
        np.testing.assert_allclose(logits[i], answer, rtol=1e-4, atol=1e-4)
        assert confidence[i] == pytest.approx(sure, abs=1e-5)


def test_thresholds_are_optional_and_default_to_the_point_chosen_at_export():
    chain = full_chain()
    x = np.random.default_rng(0).normal(size=(40, FEATURES)).astype(np.float32)
    given_thresholds = np.asarray([0.9, 0.8, 0.7, 0.6], np.float32)
    session = open_session(build(chain, given_thresholds))
    told = session.run(None, {"x": x, "thresholds": given_thresholds})
    for default, explicit in zip(session.run(None, {"x": x}), told, strict=True):
        np.testing.assert_array_equal(default, explicit)


def test_all_off_answers_exactly_like_the_segments_in_sequence():
    chain = full_chain()
    x = np.random.default_rng(1).normal(size=(64, FEATURES)).astype(np.float32)
    value = x
    for segment in chain.segments:
        value = PartSession(segment).run(value)
    logits, exit_index, _ = open_session(build(chain, [INF] * 4)).run(None, {"x": x})
    np.testing.assert_array_equal(logits, value)
    assert (exit_index == 4).all()


def test_a_stage_that_is_off_is_not_run():
    chain = ModelParts([failing("a", "logits")], [linear("s", "logits", 1)], [])
    session = open_session(build(chain, [INF]))
    x = np.ones((2, FEATURES), np.float32)
    assert (session.run(None, {"x": x})[1] == 1).all()
    with pytest.raises(Exception, match="Reshape"):
        session.run(None, {"x": x, "thresholds": np.asarray([0.5], np.float32)})


def test_an_exit_that_is_off_is_not_run():
    segments = [linear("s0", "hidden", 1), linear("s1", "logits", 2, "hidden")]
    session = open_session(build(ModelParts([], segments, [(failing("e", "logits", "hidden"), 0)]), [INF]))
    assert (session.run(None, {"x": np.ones((2, FEATURES), np.float32)})[1] == 1).all()


def test_nothing_runs_where_no_row_is_left():
    segments = [failing("s0", "hidden"), failing("s1", "logits", "hidden")]
    chain = ModelParts([linear("a", "logits", 1)], segments, [(failing("e", "logits", "hidden"), 0)])
    session = open_session(build(chain, [0.0, 0.5]))
    logits, exit_index, _ = session.run(None, {"x": np.ones((3, FEATURES), np.float32)})
    assert (exit_index == 0).all()
    np.testing.assert_array_equal(logits, PartSession(chain.savers[0]).run(np.ones((3, FEATURES), np.float32)))


def test_nan_confidence_goes_on_to_the_next_stage():
    chain = full_chain()
    x = np.ones((2, FEATURES), np.float32)
    x[1] = np.nan
    exit_index = open_session(build(chain, [0.0] * 4)).run(None, {"x": x})[1]
    assert exit_index.tolist() == [0, 4]


def sometimes_nan(name: str) -> Part:
    """Logits are the logarithm of the first feature, four times: NaN where it is negative, else all equal."""
    weight = np.zeros((FEATURES, CLASSES), np.float32)
    weight[0] = 1.0
    nodes = [helper.make_node("MatMul", ["x", "w"], ["product"]), helper.make_node("Log", ["product"], [OUTPUT])]
    return _part(name, "x", "logits", CLASSES, nodes, {"w": weight})


def test_a_stage_that_gives_nan_gives_no_evidence():
    """With one saver that is NaN on negative rows, fused answers there are those of the rest of the chain."""
    rest = full_chain("mean")
    with_nan = ModelParts([sometimes_nan("n"), *rest.savers], rest.segments, rest.exits, "mean")
    x = np.random.default_rng(3).normal(size=(50, FEATURES)).astype(np.float32)
    negative = x[:, 0] < 0
    fused = open_session(build(with_nan, [0.9, 0.8, INF, 0.9, 0.85])).run(None, {"x": x})
    alone = open_session(build(rest, [0.8, INF, 0.9, 0.85])).run(None, {"x": x[negative]})
    np.testing.assert_array_equal(fused[1][negative], alone[1] + 1)
    np.testing.assert_allclose(fused[0][negative], alone[0], rtol=1e-5, atol=1e-5)
    assert np.isfinite(fused[2]).all()
    parts = DynamicExitModel(
        [PartSession(part) for part in with_nan.segments],
        input_names=["x"],
        savers={part.name: PartSession(part) for part in with_nan.savers},
        exits={part.name: (position, PartSession(part)) for part, position in with_nan.exits},
        fuse="mean",
        thresholds=[0.9, 0.8, INF, 0.9, 0.85],
    )
    torch_answer = parts(torch.from_numpy(x))
    np.testing.assert_array_equal(torch_answer.exit_index.numpy(), fused[1])
    np.testing.assert_allclose(torch_answer.logits.numpy(), fused[0], rtol=1e-5, atol=1e-5)


def test_metadata_names_the_stages_in_the_order_of_thresholds():
    model = build(full_chain(), [0.5] * 4, labels=["p", "q"])
    metadata = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert metadata.pop("chain")["fuse"] == "none"  # test_unstitch reads the rest
    assert metadata == {"stages": ["a", "b", "e0", "e2"], "labels": ["p", "q"]}


def test_the_backbone_alone_can_be_stitched():
    chain = ModelParts([], [linear("s", "logits", 1)], [])
    x = np.ones((2, FEATURES), np.float32)
    logits, exit_index, _ = open_session(build(chain, [])).run(None, {"x": x})
    np.testing.assert_array_equal(logits, PartSession(chain.segments[0]).run(x))
    assert (exit_index == 0).all()


def test_a_wrong_number_of_thresholds_is_refused():
    with pytest.raises(ExportError, match="^3 thresholds for 4 stages; give one for each stage$"):
        build(full_chain(), [0.5] * 3)


def test_parts_of_different_operator_versions_are_refused():
    chain = full_chain()
    chain.savers[0].proto.opset_import[0].version = 17
    with pytest.raises(ExportError, match="version"):
        build(chain, [0.5] * 4)
