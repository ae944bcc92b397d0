"""Every evidence rule in its three forms, and its short cuts on records, against what a chain answers by definition."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from instances import random_records
from onnx import TensorProto, helper
from torch import nn

from dynamic_exit.chain.confidence import Gate, confidence_names
from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.chain.evidence import (
    Evidence,
    EvidenceRule,
    base,
    evidence_names,
    evidence_rule,
    mean,
    product,
    register_evidence,
    registry,
)
from dynamic_exit.chain.semantics import chain_answer, chain_answer_cost
from dynamic_exit.chain.thresholds import STAGE_OFF, Configuration
from dynamic_exit.errors import ModelError
from dynamic_exit.onnx.model_parts import ModelParts
from dynamic_exit.onnx.part import BATCH, OUTPUT, Part
from dynamic_exit.onnx.session import open_session
from dynamic_exit.onnx.stitch import stitch
from dynamic_exit.runtime.model import DynamicExitModel

STAGES, CLASSES = 4, 7
NAMES = ("a", "b", "e", "final")
POWERS = (("a", 0.4), ("b", 1.7), ("e", 0.8))
GATES = (
    ("a", Gate(constant=-1.0, largest=0.7, second=-0.4, margin=1.5, offsets=(0.5, -1.0, 0.0, 2.0, -0.3, 0.1, 0.9))),
    ("b", Gate(largest=1.2, offsets=(-1.0, 1.0))),  # of two classes alone: the others add nothing
)
EVIDENCE = [
    Evidence("none"),
    Evidence("mean"),
    Evidence("largest_of_tests"),
    Evidence("none", "margin"),
    Evidence("mean", "margin"),
    Evidence("product", "top1"),
    Evidence("product", "margin", POWERS),
    Evidence("none", "learned", gates=GATES),
    Evidence("mean", "learned"),
    Evidence("product", "learned", POWERS, GATES),
]


class LargestProbability(EvidenceRule):
    """The largest probability of each class so far; not separable, and of another state than the built-in rules."""

    def numpy(self, state, probabilities):
        known = np.nan_to_num(probabilities)
        largest = np.maximum(*state, known) if state else known
        return (largest,), largest

    def torch(self, state, probabilities):
        known = probabilities.nan_to_num()
        largest = torch.maximum(*state, known) if state else known
        return (largest,), largest

    def onnx(self, graph, state, probabilities):
        zero = graph.constant(0, np.float32)
        known = graph.add("Where", graph.add("IsNaN", probabilities), zero, probabilities)
        largest = graph.add("Max", state, known) if state else known
        return largest, largest

    def onnx_width(self, classes):
        return classes


@pytest.fixture(scope="module", autouse=True)
def _rule_of_the_tests():
    register_evidence("largest_of_tests")(LargestProbability)
    yield
    registry.RULES._entries.pop("largest_of_tests")


def softmax(logits):
    return torch.softmax(torch.from_numpy(logits), dim=1).numpy()


class Column(nn.Module):
    """The logits of one stage, which lie side by side in the input."""

    def __init__(self, stage, names=("x",)):
        super().__init__()
        self.stage, self.input_names = stage, names

    def forward(self, x):
        return x[:, self.stage * CLASSES : (self.stage + 1) * CLASSES]


def column(name: str, stage: int, takes: str, gives: str) -> Part:
    """The same as an ONNX part; a segment hands the whole input on."""
    columns = CLASSES if gives == "logits" else STAGES * CLASSES
    start, end = (stage * CLASSES, (stage + 1) * CLASSES) if gives == "logits" else (0, columns)
    value = [helper.make_node("Constant", [], [key], value_ints=[number]) for key, number in
             (("start", start), ("end", end), ("axis", 1))]  # fmt: skip
    nodes = [*value, helper.make_node("Slice", [takes, "start", "end", "axis"], [OUTPUT])]
    shapes = ((takes, STAGES * CLASSES), (OUTPUT, columns))
    into, out = (helper.make_tensor_value_info(key, TensorProto.FLOAT, [BATCH, width]) for key, width in shapes)
    graph = helper.make_graph(nodes, name, [into], [out])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return Part(name, proto, (takes,), gives)


def in_torch(evidence: Evidence) -> DynamicExitModel:
    hidden = ("hidden",)
    whole = nn.Identity()
    whole.input_names = ("x",)
    return DynamicExitModel(
        [whole, Column(3, hidden)],
        input_names=["x"],
        savers={"a": Column(0), "b": Column(1)},
        exits={"e": (0, Column(2, hidden))},
        fuse=evidence,
    )


def in_onnx(evidence: Evidence):
    segments = [column("s0", 0, "x", "hidden"), column("s1", 3, "hidden", "logits")]
    savers = [column("a", 0, "x", "logits"), column("b", 1, "x", "logits")]
    parts = ModelParts(savers, segments, [(column("e", 2, "hidden", "logits"), 0)], evidence)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [BATCH, STAGES * CLASSES])]
    return open_session(stitch(parts, inputs, CLASSES, [STAGE_OFF] * 3, {}), threads=1)


@pytest.fixture(scope="module", params=EVIDENCE, ids=str)
def forms(request):
    return request.param, in_torch(request.param), in_onnx(request.param)


def test_all_rules_are_tested_here():
    assert set(evidence_names()) == {each.rule for each in EVIDENCE}
    assert set(confidence_names()) == {each.confidence for each in EVIDENCE}


@settings(max_examples=60, deadline=None)
@given(
    thresholds=st.lists(st.one_of(st.floats(0.125, 1.0, width=32), st.just(STAGE_OFF)), min_size=3, max_size=3),
    rows=st.integers(1, 12),
    seed=st.integers(0, 10_000),
    unknown=st.floats(0, 0.4),
)
def test_torch_and_onnx_answer_what_numpy_defines(forms, thresholds, rows, seed, unknown):
    evidence, model, session = forms
    random = np.random.default_rng(seed)
    logits = random.normal(size=(STAGES, rows, CLASSES)).astype(np.float32) * 3
    logits[:-1][random.random((STAGES - 1, rows)) < unknown] = np.nan  # a stage that has no answer for a row
    expected = chain_answer([softmax(each) for each in logits], thresholds, evidence, NAMES)
    x = np.ascontiguousarray(logits.transpose(1, 0, 2).reshape(rows, -1))
    with torch.no_grad():
        found = [tuple(value.numpy() for value in model.answer(thresholds, {"x": torch.from_numpy(x)}))]
    found.append(tuple(session.run(None, {"x": x, "thresholds": np.float32(thresholds)})))
    for answers, exit_index, confidence in found:
        sure = np.abs(confidence - expected.confidence) < 1e-4  # where rounding decides, another stage may answer
        assert np.array_equal(exit_index[sure], expected.exit_index[sure]) and sure.mean() >= 1 - 1 / rows
        assert np.array_equal(answers.argmax(1)[sure], expected.prediction[sure])


@pytest.mark.parametrize("evidence", EVIDENCE, ids=str)
@pytest.mark.parametrize("seed", range(6))
def test_figures_and_search_on_records_follow_the_definition(evidence, seed):
    records = random_records(seed, samples=60, stages=3)
    powers = tuple(zip(records.stages, (0.3, 1.8, 0.9), strict=False))
    gates = tuple((name, gate) for name, (_, gate) in zip(records.stages, evidence.gates, strict=False))
    evidence = Evidence(evidence.rule, evidence.confidence, powers, gates)
    dense = [np.zeros((60, 4), np.float32) for _ in records.stages]
    for stage, each in enumerate(dense):
        np.put_along_axis(each, records.topk_classes[stage].astype(int), records.topk_probabilities[stage], axis=1)
    thresholds = np.random.default_rng(seed).uniform(0.3, 0.9, len(dense) - 1).astype(np.float32)
    for index, position in enumerate(records.positions[:-1]):
        if position >= 0 and position in records.positions[:index]:
            thresholds[index] = STAGE_OFF  # one exit per position
    configuration = Configuration.from_array(records.stages[:-1], thresholds, evidence)
    expected = chain_answer(dense, thresholds, evidence, records.stages)
    figures = evaluate(records, configuration)
    assert np.array_equal(figures.exit_index, expected.exit_index)
    assert np.array_equal(figures.prediction, expected.prediction)
    cost = chain_answer_cost(expected.exit_index, thresholds, records.own_cost, records.prefix_cost)
    assert figures.cost == pytest.approx(cost.mean())
    for seen in ((0, 1), (0, 2, 3), (1, 3)):
        recorded = evidence.on(records)
        plain = EvidenceRule.dense_evidence(recorded.rule, recorded, seen, np.arange(60), 4)
        assert np.array_equal(recorded.rule.dense_evidence(recorded, seen, np.arange(60), 4), plain)
        whole, defined = recorded.evaluate(seen, np.arange(60)), plain.argmax(axis=1)
        assert all(np.array_equal(one, other) for one, other in zip(whole, recorded.search(seen), strict=True))
        np.testing.assert_allclose(whole[1], recorded.confidences[seen[-1]].numpy(plain), rtol=1e-5, atol=1e-6)
        if len(seen) > 1 and not recorded.rule.separable:
            assert np.array_equal(whole[0], defined)


@pytest.mark.parametrize("evidence", EVIDENCE, ids=str)
def test_an_approximation_of_few_classes_is_what_the_search_gets(evidence):
    records = random_records(3, samples=60, stages=3)
    gates = tuple((name, gate) for name, (_, gate) in zip(records.stages[1:], evidence.gates, strict=False))
    powers = tuple(zip(records.stages, (0.3, 1.8, 0.9), strict=False)) if evidence.rule == "product" else ()
    recorded = Evidence(evidence.rule, evidence.confidence, powers, gates).on(records)
    approximate = recorded.approximate()
    assert (approximate is None) == (evidence.rule in ("none", "largest_of_tests"))
    for seen in ((0, 1), (0, 1, 2), (0, 2, 3)) if approximate else ():
        (sure, right), (classes, confidence) = approximate(seen), recorded.search(seen)
        np.testing.assert_allclose(sure, confidence, rtol=1e-4, atol=1e-5)
        assert np.array_equal(right, classes == records.labels)


def test_the_most_likely_classes_are_ranked_alike_in_blocks_of_any_size(monkeypatch):
    recorded, rows = Evidence("mean").on(random_records(0, samples=60, stages=3)), np.arange(60)[::2]
    evidence = recorded.rule.dense_evidence(recorded, (0, 2), rows, 4)
    expected = np.argsort(-evidence, axis=1, kind="stable")[:, :2]
    for numbers in (1_000, 40, 1):
        monkeypatch.setattr(base, "_DENSE_NUMBERS", numbers)
        assert np.array_equal(recorded.ranked((0, 2), rows, 2), expected)


def test_a_product_keeps_its_digits_where_stages_say_little():
    # per class e ** sum - 1 over that of all classes; sums from 0.006 to 1.2
    probabilities = np.array([[2e-4, 1e-3, 1e-2, 0.1], [0.5, 0.2, 0.02, 3e-4]], np.float32)
    rule = evidence_rule("product").with_power(0.3)
    exact = np.expm1(np.log1p(probabilities.astype(np.float64) / product.FLOOR) * 0.3)
    (sums,), evidence = rule.numpy((), probabilities)
    assert sums.min() < 0.01 < 1 < sums.max()
    _, in_torch = rule.torch((), torch.from_numpy(probabilities))
    for found in (evidence, in_torch.numpy()):
        np.testing.assert_allclose(found, exact / exact.sum(axis=1, keepdims=True), rtol=1e-3)


def test_evidence_is_the_same_in_whatever_order_stages_are_named():
    one, other = (Evidence("product", "learned", POWERS[::way], GATES[::way]) for way in (1, -1))
    assert one == other and hash(one) == hash(other) and one.parameters == other.parameters


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("mean", {}, f"evidence rule 'mean' is already registered by {mean.__name__}; choose another name"),
        ("my rule", {}, "an evidence rule must be named by an identifier; got 'my rule'"),
        ("half", {"onnx": None}, "evidence rule 'half' lacks `onnx`; a rule has numpy, torch and onnx forms"),
    ],
)  # fmt: skip
def test_what_cannot_be_registered_is_refused(name, body, message):
    methods = {key: getattr(LargestProbability, key) for key in ("numpy", "torch", "onnx") if key not in body}
    with pytest.raises(ModelError) as refused:
        register_evidence(name)(type("Rule", (EvidenceRule,), methods))
    assert str(refused.value) == message


def test_an_unknown_rule_is_refused_with_the_nearest():
    with pytest.raises(ModelError, match=r"^unknown evidence rule 'mea'; did you mean 'mean'\?$"):
        evidence_rule("mea")
