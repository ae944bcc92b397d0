"""Models whose weights need a file of their own, at a limit that a small one passes."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from dynamic_exit.errors import ExportError
from dynamic_exit.onnx import external_data
from dynamic_exit.onnx.export import export_part
from dynamic_exit.onnx.model_parts import ModelParts
from dynamic_exit.onnx.quantize import QuantizationOptions, quantize_part
from dynamic_exit.onnx.session import open_session
from dynamic_exit.onnx.stitch import stitch

LIMIT = 10_000
IMAGES = np.random.default_rng(0).normal(size=(40, 1, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(0)
    saver = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(64, 200), nn.ReLU(), nn.Linear(200, 3))
    example = (torch.zeros(2, 1, 8, 8),)
    return [
        export_part(name, net.eval(), ("image",), "logits", example)
        for name, net in (("saver", saver), ("net", backbone))
    ]


def stitched(parts, limit=None):
    saver, net = parts
    return stitch(ModelParts([saver], [net], []), net.proto.graph.input, 3, [0.5], {"labels": list("abc")}, limit)


def answers(session):
    return session.run(None, {"image": IMAGES})


def test_a_large_model_lies_in_two_files_and_answers_the_same(parts, tmp_path):
    model = stitched(parts)
    before = model.SerializeToString(deterministic=True)
    files = external_data.save_model(model, tmp_path / "model.onnx", LIMIT)
    assert files == [tmp_path / "model.onnx", tmp_path / "model.onnx.data"] == sorted(tmp_path.iterdir())
    assert files[0].stat().st_size < 20_000
    assert files[1].stat().st_size > 64 * 200 * 4, "the weights, which lie in a branch"
    assert model.SerializeToString(deterministic=True) == before, "the model in memory is as it was"
    onnx.checker.check_model(str(files[0]), full_check=True)
    for one, other in zip(answers(open_session(str(files[0]))), answers(open_session(model)), strict=True):
        assert np.array_equal(one, other)


def test_it_is_checked_and_opened_through_a_file_that_is_removed(parts):
    whole = stitched(parts)
    wanted = answers(open_session(whole))
    with external_data.for_onnx(whole, LIMIT) as path:
        assert sorted(os.listdir(Path(path).parent)) == ["model.onnx", "model.onnx.data"]
    assert not Path(path).parent.exists()
    with external_data.for_onnx(whole) as form:
        assert form is whole
    model = stitched(parts, LIMIT)
    assert model.SerializeToString(deterministic=True) == whole.SerializeToString(deterministic=True)
    for one, other in zip(answers(open_session(model, limit=LIMIT)), wanted, strict=True):
        assert np.array_equal(one, other)


def test_a_broken_large_model_is_refused_too(parts):
    saver, net = parts
    proto = onnx.ModelProto()
    proto.CopyFrom(net.proto)
    proto.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(ExportError, match="^the stitched file is not valid ONNX: "):
        stitch(ModelParts([saver], [net.with_proto(proto)], []), net.proto.graph.input, 3, [0.5], {}, LIMIT)


def test_the_limit_counts_weights_inside_branches(parts):
    saver, net = parts
    assert not external_data.is_large(saver.proto, LIMIT)
    assert external_data.is_large(net.proto, LIMIT)
    assert external_data.is_large(stitched(parts), LIMIT)
    assert not external_data.is_large(stitched(parts))
    assert external_data.LIMIT < 2**31


def test_saving_again_leaves_nothing_of_the_file_before(parts, tmp_path):
    model = stitched(parts)
    first = external_data.save_model(model, tmp_path / "model.onnx", LIMIT)[1].read_bytes()
    assert external_data.save_model(model, tmp_path / "model.onnx", LIMIT)[1].read_bytes() == first


def test_a_large_part_is_quantized_to_the_same(parts):
    feeds = [{"image": IMAGES}]
    plain = quantize_part(parts[1], feeds, QuantizationOptions())
    large_one = quantize_part(parts[1], feeds, QuantizationOptions(), LIMIT)
    for part in (plain, large_one):
        weights = {tensor.data_type for tensor in part.proto.graph.initializer if len(tensor.dims) == 2}
        assert weights == {onnx.TensorProto.INT8}
    wanted, found = (open_session(part.proto).run(None, feeds[0])[0] for part in (plain, large_one))
    assert np.array_equal(found, wanted)
    assert not any(tensor.external_data for tensor in large_one.proto.graph.initializer)
