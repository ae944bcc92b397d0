"""Int8 of single parts."""

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from dynamic_exit.graph import Classifier, capture, split
from dynamic_exit.onnx.export import export_part
from dynamic_exit.onnx.model_parts import ModelParts
from dynamic_exit.onnx.quantize import QuantizationOptions, quantize_part
from dynamic_exit.onnx.session import PartSession, open_session
from dynamic_exit.onnx.stitch import stitch
from dynamic_exit.onnx.verification import Agreement, compare
from dynamic_exit.runtime.model import DynamicExitModel


def test_int8_keeps_answers_close_and_stores_weights_in_8_bits(part, images):
    quantized = quantize_part(part, [{"image": images}], QuantizationOptions())
    float_answer, int8_answer = PartSession(part).run(images), PartSession(quantized).run(images)
    assert np.abs(float_answer - int8_answer).max() < 0.1 * np.abs(float_answer).max()
    assert not np.array_equal(float_answer, int8_answer)
    kinds = {tensor.data_type for tensor in quantized.proto.graph.initializer if len(tensor.dims) == 4}
    assert kinds == {onnx.TensorProto.INT8}


@pytest.mark.parametrize("method", ["static", "dynamic"])
def test_weights_of_seven_bits_keep_to_half_of_the_range(part, images, method):
    options = QuantizationOptions(method, reduce_range=False)
    for each, most in ((options, 127), (dataclasses.replace(options, reduce_range=True), 64)):
        quantized = quantize_part(part, [{"image": images}], each)
        kinds = [tensor for tensor in quantized.proto.graph.initializer if tensor.data_type == onnx.TensorProto.INT8]
        weights = [numpy_helper.to_array(tensor) for tensor in kinds if len(tensor.dims) > 1]
        assert max(int(np.abs(array.astype(int)).max()) for array in weights) == most


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
