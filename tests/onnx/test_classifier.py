"""ONNX files as candidates: they answer, cost and ship as the torch model that they were made of."""

import copy

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from dynamic_exit.cost import count_macs
from dynamic_exit.errors import CaptureError, ExportError, ModelError
from dynamic_exit.graph import Classifier, Preprocessing, capture
from dynamic_exit.onnx.classifier import OnnxClassifier, import_onnx
from dynamic_exit.onnx.export import export_part
from dynamic_exit.onnx.model_parts import ModelParts
from dynamic_exit.onnx.opset import OPSET
from dynamic_exit.onnx.part import BATCH
from dynamic_exit.onnx.quantize import QuantizationOptions, quantize_part
from dynamic_exit.onnx.session import PartSession, open_session
from dynamic_exit.onnx.stitch import stitch

CLASSES = 3


class Network(nn.Module):
    """Convolutions of every kind, attention-like products and a linear layer."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8, stride=2)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, image):
        x = torch.relu(self.up(torch.relu(self.depthwise(torch.relu(self.first(image)))))).flatten(2)
        return self.head((x @ x.transpose(1, 2)).mean(2))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return Network().eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(7, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def file_of(model: nn.Module, x: torch.Tensor, free: bool = True, **options) -> onnx.ModelProto:
    """What a user exports."""
    shapes = ({0: torch.export.Dim("n")},) if free else None
    return torch.onnx.export(model, (x,), dynamo=True, dynamic_shapes=shapes, verbose=False, **options).model_proto


@pytest.fixture(scope="module")
def file(network, images):
    return file_of(network, images[:2])


def by_hand(nodes, weights=None, inputs=("x",), outputs=("y",), shape=(BATCH, 4), opset=OPSET, kind=TensorProto.FLOAT):
    """A file out of single nodes."""
    graph = helper.make_graph(
        nodes,
        "by_hand",
        [helper.make_tensor_value_info(name, kind, shape) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [shape[0], 4]) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


SQUARE = np.arange(16, dtype=np.float32).reshape(4, 4) / 8
PRODUCT = helper.make_node("MatMul", ["x", "w"], ["p"])
ROWS = torch.linspace(-1, 1, 12).view(3, 4)


def test_it_answers_like_the_torch_model(tmp_path, file, network, images):
    onnx.save(file, tmp_path / "net.onnx")
    imported = import_onnx(tmp_path / "net.onnx")
    imported.check(images)
    for batch in (1, 2, 7):
        torch.testing.assert_close(imported(images[:batch]), network(images[:batch]), atol=1e-5, rtol=1e-5)
    assert imported.image_size == (6, 6)


def test_it_costs_what_the_torch_model_costs(file, network, images):
    counted = count_macs(network, (images,))
    assert counted == 36 * 8 * 9 + 4 * 8 * 9 + 4 * 8 * 4 * 4 + 4 * 4 * 16 + 4 * CLASSES
    wrapped = Classifier(OnnxClassifier(file, "net"), preprocessing=Preprocessing(size=(6, 6))).eval()
    assert count_macs(wrapped, (images,)) == counted
    assert count_macs(wrapped, (torch.randn(2, 1, 9, 9),)) == counted


def test_a_copy_answers_the_same(file, images):
    imported = OnnxClassifier(file, "net")
    assert torch.equal(copy.deepcopy(imported)(images), imported(images))


def test_it_cannot_be_a_backbone(file, images):
    message = "^ONNX model 'm' can be a candidate only; give the backbone as a torch model$"
    with pytest.raises(CaptureError, match=message):
        capture(Classifier(OnnxClassifier(file, "m")).eval(), (images,))


@pytest.mark.parametrize("images_as", [torch.float32, torch.uint8])
@pytest.mark.parametrize("steps", [{}, {"size": (6, 6), "scale": 0.5, "mean": [0.1], "std": [0.3]}])
def test_it_ships_with_its_preprocessing_and_class_order(file, images, images_as, steps):
    x = (images * 40 + 100).to(images_as)
    x = x if not steps else torch.nn.functional.pad(x, (0, 3, 1, 0))
    candidate = Classifier(OnnxClassifier(file, "net"), preprocessing=Preprocessing(**steps), class_order=[2, 0]).eval()
    part = export_part("saver", candidate, ("image",), "logits", (x[:2],))
    onnx.checker.check_model(part.proto, full_check=True)
    assert (part.input_names, part.output_kind, part.output_shape) == (("image",), "logits", (2,))
    session = PartSession(part)
    for batch in (1, 2, 7):
        torch.testing.assert_close(session(x[:batch]), candidate(x[:batch]), atol=1e-3, rtol=1e-4)


def test_it_is_stitched_and_quantized(file, network, images):
    saver = export_part("a", Classifier(OnnxClassifier(file, "net")).eval(), ("input",), "logits", (images[:2],))
    backbone = export_part("s0", network, ("input",), "logits", (images[:2],))
    small = quantize_part(saver, [{"input": images.numpy()}], QuantizationOptions())
    assert any(node.op_type == "QuantizeLinear" for node in small.proto.graph.node)
    assert np.abs(PartSession(small).run(images.numpy()) - PartSession(saver).run(images.numpy())).max() < 0.3
    assert quantize_part(small, [], QuantizationOptions()) is small
    for part in (saver, small):
        model = stitch(ModelParts([part], [backbone], []), backbone.proto.graph.input, CLASSES, [0.5], {})
        session = open_session(model, threads=1)
        for batch in (1, 2, 7):
            feeds = {"input": images[:batch].numpy()}
            logits, exits, _ = session.run(None, feeds | {"thresholds": np.float32([0.0])})
            assert (exits == 0).all()
            np.testing.assert_allclose(logits, PartSession(part).run(feeds["input"]), atol=1e-5)
            off = session.run(None, feeds | {"thresholds": np.float32([np.inf])})
            np.testing.assert_allclose(off[0], PartSession(backbone).run(feeds["input"]), atol=1e-6)


def test_a_quantized_file_runs_and_stays_as_it_is(file, images):
    part = export_part("a", Classifier(OnnxClassifier(file, "net")).eval(), ("image",), "logits", (images[:2],))
    quantized = quantize_part(part, [{"image": images.numpy()}], QuantizationOptions())
    again = OnnxClassifier(quantized.proto, "int8")
    again.check(images)
    np.testing.assert_allclose(again(images).numpy(), PartSession(quantized).run(images.numpy()), atol=1e-6)
    assert count_macs(again, (images,)) == count_macs(OnnxClassifier(file, "net"), (images,))
    shipped = export_part("a", Classifier(again).eval(), ("image",), "logits", (images[:2],))
    assert quantize_part(shipped, [], QuantizationOptions()) is shipped


@pytest.mark.parametrize("end", ["plain", "flat", "rounded", "log"])
def test_a_softmax_at_the_end_is_taken_off(end):
    tail = {
        "plain": [helper.make_node("Softmax", ["p"], ["y"], axis=1)],
        "flat": [helper.make_node("Softmax", ["p"], ["s"], axis=1), helper.make_node("Flatten", ["s"], ["y"])],
        "rounded": [
            helper.make_node("Softmax", ["p"], ["s"], axis=1),
            helper.make_node("QuantizeLinear", ["s", "scale", "zero"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
        ],
        "log": [helper.make_node("LogSoftmax", ["p"], ["y"], axis=1)],
    }[end]
    imported = OnnxClassifier(
        by_hand([PRODUCT, *tail], {"w": SQUARE, "scale": np.float32(0.01), "zero": np.uint8(0)}), "m"
    )
    product = ROWS @ torch.from_numpy(SQUARE)
    torch.testing.assert_close(imported(ROWS), product.log_softmax(1) if end == "log" else product)


def test_a_softmax_inside_stays():
    nodes = [PRODUCT, helper.make_node("Softmax", ["p"], ["s"], axis=1), helper.make_node("Mul", ["s", "s"], ["y"])]
    imported = OnnxClassifier(by_hand(nodes, {"w": SQUARE}), "m")
    torch.testing.assert_close(imported(ROWS), (ROWS @ torch.from_numpy(SQUARE)).softmax(1) ** 2)


def test_the_output_called_logits_is_taken_and_what_only_others_need_is_left_out():
    nodes = [helper.make_node("MatMul", ["x", "w"], ["logits"]), helper.make_node("MatMul", ["logits", "w"], ["y"])]
    imported = OnnxClassifier(by_hand(nodes, {"w": SQUARE}, outputs=("y", "logits")), "m")
    torch.testing.assert_close(imported(ROWS), ROWS @ torch.from_numpy(SQUARE))
    assert count_macs(imported, (ROWS,)) == 16


def test_logits_of_one_pixel_become_flat():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1)).eval()
    x = torch.randn(2, 1, 6, 6)
    torch.testing.assert_close(OnnxClassifier(file_of(model, x), "m")(x), model(x).flatten(1), atol=1e-5, rtol=1e-5)


def test_weights_among_the_inputs_are_no_inputs():
    model = by_hand([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": SQUARE})
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 4]))
    torch.testing.assert_close(OnnxClassifier(model, "m")(ROWS), ROWS @ torch.from_numpy(SQUARE))


@pytest.mark.parametrize("opset", [11, 13, 18, 22])
def test_other_operator_versions_are_converted(opset):
    nodes = [PRODUCT, helper.make_node("Relu", ["p"], ["r"]), helper.make_node("MatMul", ["r", "w"], ["y"])]
    model = OnnxClassifier(by_hand(nodes, {"w": SQUARE}, opset=opset), "m")
    model.check(ROWS)
    part = export_part("a", Classifier(model).eval(), ("x",), "logits", (ROWS,))
    assert [(each.domain, each.version) for each in part.proto.opset_import] == [("", OPSET)]
    weight = torch.from_numpy(SQUARE)
    torch.testing.assert_close(PartSession(part)(ROWS), torch.relu(ROWS @ weight) @ weight)


def test_integer_inputs_are_cast():
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    model = Classifier(OnnxClassifier(by_hand(nodes, {"w": SQUARE}, kind=TensorProto.UINT8), "m")).eval()
    x = torch.arange(8, dtype=torch.uint8).view(2, 4)
    part = export_part("a", model, ("x",), "logits", (x,))
    torch.testing.assert_close(model(x), x.float() @ torch.from_numpy(SQUARE))
    torch.testing.assert_close(PartSession(part)(x), model(x))


@pytest.mark.parametrize("constant", [False, True])
def test_a_fixed_batch_is_set_free(constant):
    """Reshapes that repeat the batch, as exporters write them, go along."""
    nodes = [helper.make_node("Reshape", ["x", "to"], ["r"]), helper.make_node("MatMul", ["r", "w"], ["y"])]
    weights, shape = {"w": SQUARE}, np.int64([1, -1])
    if constant:
        nodes.insert(0, helper.make_node("Constant", [], ["to"], value=numpy_helper.from_array(shape)))
    else:
        weights["to"] = shape
    imported = OnnxClassifier(by_hand(nodes, weights, shape=(1, 2, 2)), "m")
    x = ROWS.view(3, 2, 2)
    imported.check(x)
    torch.testing.assert_close(imported(x), ROWS @ torch.from_numpy(SQUARE))


@pytest.mark.parametrize("size", [1, 2])
def test_a_torch_export_of_one_batch_size_is_set_free(network, images, size):
    imported = OnnxClassifier(file_of(network, images[:size], free=False), "m")
    imported.check(images)
    torch.testing.assert_close(imported(images), network(images).detach(), atol=1e-5, rtol=1e-5)


def mixing(opset=OPSET) -> onnx.ModelProto:
    mean = helper.make_node("ReduceMean", ["p", "axis"], ["m"], keepdims=1)
    nodes = [PRODUCT, mean, helper.make_node("Sub", ["p", "m"], ["y"])]
    return by_hand(nodes, {"w": SQUARE, "axis": np.int64([0])}, opset=opset)


def growing() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Concat", ["x", "one"], ["c"], name="join", axis=1),
        helper.make_node("MatMul", ["c", "w"], ["y"]),
    ]
    weights = {"one": np.ones((1, 1), np.float32), "w": np.ones((5, 4), np.float32)}
    return by_hand(nodes, weights, shape=(1, 4))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (mixing, "ONNX model 'm' answers samples otherwise in a batch; export it with a free batch size and "
                 "opset_version=20"),
        (lambda: mixing(18), "ONNX model 'm' answers samples otherwise in a batch or with its operators of version 18 "
                             "converted; export it with a free batch size and opset_version=20"),
        (growing, "ONNX model 'm' runs on one sample but not on 3 in Concat 'join'; export it with a free batch size"),
        (lambda: by_hand([helper.make_node("Relu", ["x"], ["y"])]),
         "ONNX model 'm' has no matrix product or convolution to count"),
    ],
)  # fmt: skip
def test_check_refuses(make, message):
    with pytest.raises(ModelError) as refused:
        OnnxClassifier(make(), "m").check(ROWS)
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            by_hand([helper.make_node("Add", ["x", "z"], ["y"])], inputs=("x", "z")),
            "ONNX model 'm' takes 2 inputs (x, z); a candidate takes one",
        ),
        (
            by_hand([PRODUCT, *(helper.make_node("Relu", ["p"], [name]) for name in "yz")], outputs=("y", "z")),
            "ONNX model 'm' must have one output of floating logits (N, C) but 2 of [y, z] are; call it 'logits'",
        ),
        (
            by_hand([helper.make_node("Frobnicate", ["x"], ["y"], domain="acme")]),
            "ONNX model 'm' uses the operator 'acme.Frobnicate', which onnxruntime does not have; export it without",
        ),
        (
            by_hand([helper.make_node("Frobnicate", ["x"], ["y"])]),
            "ONNX model 'm' cannot be used: onnxruntime refuses the model: ",
        ),
    ],
)  # fmt: skip
def test_a_file_that_is_no_candidate_is_refused(model, message):
    if message.endswith("without"):
        model.opset_import.append(helper.make_opsetid("acme", 1))
    with pytest.raises(ModelError) as refused:
        OnnxClassifier(model, "m")
    assert str(refused.value).startswith(message)


def test_a_file_that_is_no_onnx_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"^ONNX file '.*/none.onnx' does not exist; check the path$"):
        import_onnx(tmp_path / "none.onnx")
    for content in (b"no model at all", b""):
        (tmp_path / "bad.onnx").write_bytes(content)
        with pytest.raises(ModelError, match=r"^file '.*/bad.onnx' (cannot be read as|holds no) ONNX"):
            import_onnx(tmp_path / "bad.onnx")


def test_a_wrong_shape_is_refused_before_it_runs(file):
    message = r"^ONNX model 'net' takes samples of shape \[1, 6, 6\]; got \[1, 5, 6\]; set its `preprocessing`$"
    with pytest.raises(ModelError, match=message):
        OnnxClassifier(file, "net")(torch.zeros(2, 1, 5, 6))


def test_a_model_of_several_inputs_cannot_have_it_as_a_stage(file, images):
    with pytest.raises(ExportError, match="^stage 'a' is an ONNX file of one input; the model has 2, leave it out$"):
        export_part("a", Classifier(OnnxClassifier(file, "m")).eval(), ("p", "q"), "logits", (images, images))


def test_nothing_of_the_users_machine_is_shipped(file, images):
    assert b".py" in file.SerializeToString()
    part = export_part("a", Classifier(OnnxClassifier(file, "m")).eval(), ("x",), "logits", (images[:2],))
    assert b".py" not in part.proto.SerializeToString()
