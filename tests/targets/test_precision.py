"""Which quantization ships: measured where several are named, every kind of it on a small transformer."""

import numpy as np
import onnx
import pytest
import sentences
import tiny

from dynamic_exit.onnx.export import export_part
from dynamic_exit.onnx.quantize import PRODUCTS, QuantizationOptions, is_quantized, quantize_part
from dynamic_exit.onnx.session import PartSession
from dynamic_exit.onnx.unstitch import unstitch
from dynamic_exit.pipeline.backbone import cut_backbone
from dynamic_exit.pipeline.inputs import load_run_inputs
from dynamic_exit.pipeline.run import run
from dynamic_exit.recipe import read_recipe
from dynamic_exit.targets.precision import QuantizationTrial, _best, choose_numerics

SEVERAL = {"static_quant": {}, "pt2e_dynamic_quant": {}, "rtn": {"bits": 4}}


def row(name, accuracy, seconds):
    return QuantizationTrial(name, accuracy, seconds, bytes=None)


@pytest.mark.parametrize(
    "rows, best",
    [
        ([row("float", 0.9, 5), row("a", 0.898, 3), row("b", 0.897, 1)], "a"),
        ([row("float", 0.9, 5), row("a", 0.95, 3), row("b", 0.897, 1)], "a"),
        ([row("float", 0.9, 2), row("a", 0.9, 3)], "float"),
        ([row("float", 0.9, 5), row("a", None, None), row("b", 0.8, 1)], "float"),
    ],
    ids=["the fastest that keeps enough", "more right is not asked for", "nothing gained", "refused and lossy"],
)
def test_the_fastest_that_keeps_enough_is_taken(rows, best):
    assert _best(rows, 0.0025).algorithm == best


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """The small transformer as one part, its calibration inputs and answers in float."""
    run_inputs = load_run_inputs(read_recipe(sentences.build(tmp_path_factory.mktemp("numerics"))))
    classifier = run_inputs.backbone
    feeds = run_inputs.splits["calibration"].feeds(classifier.input_names)
    example = classifier.select(run_inputs.example)
    part = export_part("backbone", classifier, classifier.input_names, "logits", example)
    return part, feeds, PartSession(part).run(*feeds.values())


@pytest.mark.parametrize(
    "options, operator",
    [
        (QuantizationOptions(operators=PRODUCTS), "QuantizeLinear"),
        (QuantizationOptions("dynamic"), "DynamicQuantizeLinear"),
        (QuantizationOptions("weights", bits=8), "MatMulNBits"),
        (QuantizationOptions("weights", bits=4), "MatMulNBits"),
    ],
    ids=lambda each: each if isinstance(each, str) else f"{each.method} {each.bits}",
)
def test_each_kind_quantizes_and_answers_nearly_alike(backbone, options, operator):
    part, feeds, plain = backbone
    quantized = quantize_part(part, [feeds], options)
    assert operator in {node.op_type for node in quantized.proto.graph.node}
    answers = PartSession(quantized).run(*feeds.values())
    assert not np.array_equal(answers, plain)
    assert np.abs(answers - plain).mean() < (0.3 if options.bits == 4 else 0.1) * plain.std()
    assert quantize_part(quantized, [], options) is quantized


def test_a_run_logs_what_was_tried_and_ships_what_was_chosen(tmp_path, log_lines):
    path = sentences.build(tmp_path, quantization=SEVERAL, dynamic_exit__early_exit=None)
    result = run(read_recipe(path))
    rows = {each.algorithm: each for each in result.metrics.numerics}
    assert list(rows) == ["float", *SEVERAL]
    assert sum(each.chosen for each in rows.values()) == 1
    chosen = next(name for name, each in rows.items() if each.chosen)
    assert rows[chosen].accuracy >= rows["float"].accuracy - 0.005
    assert any(line.startswith(f"quantization {chosen}: chosen, ") for line in log_lines)
    content = (result.folder / "model.onnx").read_bytes()
    marks = {"static_quant": b"DequantizeLinear", "pt2e_dynamic_quant": b"DynamicQuantizeLinear", "rtn": b"MatMulNBits"}
    assert [name for name, mark in marks.items() if mark in content] == ([] if chosen == "float" else [chosen])
    assert "Quantization of the backbone" in (result.folder / "report.html").read_text()


def test_one_algorithm_is_taken_without_measuring(tmp_path):
    run_inputs = load_run_inputs(read_recipe(sentences.build(tmp_path, quantization={"rtn": {"bits": 8}})))
    backbone = cut_backbone(run_inputs.backbone, run_inputs.example, None)
    options, rows = choose_numerics(run_inputs, backbone)
    assert (options.method, options.bits, rows) == ("weights", 8, [])


@pytest.mark.parametrize(
    "change, quantized",
    [("model__quantize", {"saver2"}), ("dynamic_exit__tiny_saver__candidates__0__quantize", {"segment0"})],
    ids=["the backbone", "a saver"],
)
def test_a_stage_stays_in_float_where_the_recipe_says_so(tmp_path, change, quantized):
    path = tiny.build(tmp_path, dynamic_exit__early_exit=None, **{change: False})
    result = run(read_recipe(path))
    chain = unstitch(onnx.load(result.folder / "model.onnx"))
    assert [part.name for part in (*chain.savers, *chain.segments)] == ["saver2", "segment0"]
    assert {part.name for part in (*chain.savers, *chain.segments) if is_quantized(part)} == quantized
    told = [row.name for row in result.metrics.rows[:2]]
    assert (told[1] == "backbone, int8") == ("segment0" in quantized)
