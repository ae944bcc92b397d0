"""Export of single modules, their sessions, and int8."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from dynamic_exit.errors import ExportError, VerificationError
from dynamic_exit.graph import Classifier, capture, split
from dynamic_exit.onnx.export import export_part
from dynamic_exit.onnx.model_parts import ModelParts
from dynamic_exit.onnx.part import BATCH
from dynamic_exit.onnx.quantize import QuantizationOptions, quantize_part
from dynamic_exit.onnx.session import PartSession, open_session
from dynamic_exit.onnx.stitch import stitch
from dynamic_exit.onnx.verification import Agreement, assert_equivalent, compare, is_equivalent, run_session
from dynamic_exit.runtime.model import DynamicExitModel


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)).eval()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(64, 1, 6, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def part(network):
    return export_part("net", network, ("image",), "logits", (torch.zeros(2, 1, 6, 6),))


@pytest.mark.parametrize("batch", [1, 2, 7, 64])
def test_the_session_answers_like_the_module_at_any_batch_size(part, network, images, batch):
    with torch.no_grad():
        wanted = network(torch.from_numpy(images[:batch])).numpy()
    np.testing.assert_allclose(PartSession(part).run(images[:batch]), wanted, atol=1e-5)


def test_the_batch_dimension_is_free_and_named(part):
    (value,) = part.proto.graph.input
    assert value.name == "image"
    assert [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] == [BATCH, 1, 6, 6]
    assert part.output_shape == (3,)


def test_nothing_of_this_machine_is_written_into_the_file(part):
    content = part.proto.SerializeToString()
    for trace in (b".py", b"site-packages", b"stack_trace"):
        assert trace not in content


class Odd(nn.Module):
    def forward(self, x):
        return torch.special.airy_ai(x)


class Svd(nn.Module):
    """The exporter takes the operator apart before it gives up."""

    def forward(self, x):
        return torch.linalg.svdvals(x[:, 0])


@pytest.mark.parametrize(
    ("kind", "operator"), [(Odd, "aten.special_airy_ai.default"), (Svd, "aten._linalg_svd.default")]
)
def test_an_operator_without_a_counterpart_is_named_with_its_module(kind, operator):
    """Alone, inside a user's model, and in a segment that was cut out of it."""
    images = torch.zeros(2, 1, 6, 6)
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Sequential(nn.ReLU(), kind()), nn.Flatten(), nn.LazyLinear(3)).eval()
    model(images)
    (segment,) = split(capture(Classifier(model).eval(), (images,)), [])
    said = f"stage 'odd' cannot be exported to ONNX: operator '{operator}' of module %s has no counterpart there; "
    inside = f"'1.1' ({kind.__name__})"
    cases = (kind().eval(), kind.__name__), (model, inside), (Classifier(model).eval(), inside), (segment, inside)
    for module, place in cases:
        with pytest.raises(ExportError) as refused:
            export_part("odd", module, ("x",), "logits", (images,))
        assert str(refused.value) == said % place + "leave this stage out"


def test_int8_keeps_answers_close_and_stores_weights_in_8_bits(part, images):
    quantized = quantize_part(part, [{"image": images}], QuantizationOptions())
    float_answer, int8_answer = PartSession(part).run(images), PartSession(quantized).run(images)
    assert np.abs(float_answer - int8_answer).max() < 0.1 * np.abs(float_answer).max()
    assert not np.array_equal(float_answer, int8_answer)
    kinds = {tensor.data_type for tensor in quantized.proto.graph.initializer if len(tensor.dims) == 4}
    assert kinds == {onnx.TensorProto.INT8}


def test_int8_stitched_equals_int8_parts_exactly(network, images):
    program = capture(Classifier(network).eval(), (torch.from_numpy(images[:2]),))
    segments = split(program, [])
    backbone = export_part("segment0", segments[0], segments[0].input_names, "logits", segments[0].example_inputs)
    name = program.input_names[0]
    torch.manual_seed(1)
    saver = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).eval()
    small = export_part("saver", saver, (name,), "logits", (torch.zeros(2, 1, 6, 6),))
    small, backbone = (quantize_part(p, [{name: images}], QuantizationOptions()) for p in (small, backbone))
    file = stitch(ModelParts([small], [backbone], []), backbone.proto.graph.input, 3, [0.5], {})
    parts = DynamicExitModel(
        [PartSession(backbone)], input_names=[name], savers={"saver": PartSession(small)}, thresholds=[0.5]
    )
    points = [np.asarray([t], np.float32) for t in (0.4, 0.5, np.inf)]
    session = open_session(file, threads=1)
    for batch in (1, 7, 64):
        assert compare(parts, session, {name: images}, points, batch) == Agreement(64, 3, 0, 0, 0, 0.0)


def test_disagreement_fails_the_export():
    assert_equivalent(Agreement(10, 2, 0, 3, 0, 1e-5), "they", 1e-4)
    with pytest.raises(VerificationError, match="^they differ in 1 exits and 2 predictions on 10 samples at 2 oper"):
        assert_equivalent(Agreement(10, 2, 1, 0, 2, 0.0), "they", 1e-4)
    with pytest.raises(VerificationError, match="logits by 0.00"):
        assert_equivalent(Agreement(10, 2, 0, 0, 0, 2e-3), "they", 1e-4)


def test_compare_counts_exits_that_part_away_from_the_threshold(part, network, images):
    """A saver with other weights leaves elsewhere; rounding at the threshold is told apart."""
    input_names = part.input_names
    other = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).eval()
    torch.nn.init.constant_(other[1].weight, 0.0)
    torch.nn.init.constant_(other[1].bias, 0.0)
    saver = export_part("saver", other, input_names, "logits", (torch.zeros(2, 1, 6, 6),))
    session = open_session(stitch(ModelParts([saver], [part], []), part.proto.graph.input, 3, [0.5], {}))
    sure = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).eval()
    with torch.no_grad():
        sure[1].weight.zero_()
        sure[1].bias.copy_(torch.tensor([9.0, 0.0, 0.0]))
    model = DynamicExitModel([network], input_names=list(input_names), savers={"saver": sure})
    found = compare(model, session, {"image": images}, [np.asarray([0.5], np.float32)])
    assert (found.exits_apart, found.rounding) == (64, 0)
    near = compare(model, session, {"image": images}, [np.asarray([float(1 - 2.5e-4)], np.float32)])
    assert near.exits_apart + near.rounding == 64


def test_an_8_bit_step_may_change_logits_exits_and_ties(part):
    """By hand: rows have the logits (0, 0.01), in the file (0.01, 0): a step of 0.01 does that, one of 0.004 not."""

    def constant(*logits):
        made = nn.Sequential(nn.Flatten(), nn.Linear(36, 2)).eval()
        nn.init.zeros_(made[1].weight)
        made[1].bias.data = torch.tensor(logits)
        return made

    images = np.zeros((5, 1, 6, 6), np.float32)
    parts = [
        export_part(name, constant(0.01, 0.0), part.input_names, "logits", (torch.zeros(2, 1, 6, 6),)) for name in "ab"
    ]
    session = open_session(stitch(ModelParts(parts[:1], parts[1:], []), part.proto.graph.input, 2, [0.5], {}))
    model = DynamicExitModel(
        [constant(0.0, 0.01)], input_names=list(part.input_names), savers={"a": constant(0.0, 0.01)}, thresholds=[0.5]
    )
    leaves, stays = np.float32([0.4]), np.float32([np.inf])
    for thresholds in (leaves, stays):
        found = [compare(model, session, {"image": images}, [thresholds], step=step) for step in (0.0, 0.004, 0.01)]
        assert [each.predictions_apart for each in found] == [5, 5, 0]
        assert [each.largest_difference for each in found] == pytest.approx([0.01] * 3, abs=1e-6)
        assert [is_equivalent(each, 0.011) for each in found] == [False, False, True]
    sure = 1 / (1 + np.exp(-0.01))  # the file's rows of 0.502 leave, rows of 0.5 would not
    model.savers[0][1].bias.data.zero_()
    for below, expected in ((1e-5, [(0, 5), (0, 5)]), (1e-3, [(5, 0), (0, 5)])):
        limits = [np.float32([sure - below])]
        found = [compare(model, session, {"image": images}, limits, step=step) for step in (0.0, 0.01)]
        assert [(each.exits_apart, each.rounding) for each in found] == expected


def test_run_session_puts_batches_together_in_order(part, images):
    session = open_session(stitch(ModelParts([], [part], []), part.proto.graph.input, 3, [], {}))
    none = np.zeros(0, np.float32)
    for whole, pieces in zip(
        run_session(session, {"image": images}, none, 64), run_session(session, {"image": images}, none, 5), strict=True
    ):
        np.testing.assert_allclose(whole, pieces, atol=1e-6)


def test_an_unknown_provider_is_refused(part):
    with pytest.raises(ExportError, match="^onnxruntime has no provider 'NoSuchProvider' on this machine; it has "):
        open_session(part.proto, providers=["NoSuchProvider"])
