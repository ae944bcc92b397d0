"""Versions of ONNX's operators: what is exported answers alike with each, or is refused."""

import numpy as np
import onnx
import pytest
import tiny
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional

from dynamic_exit.errors import ExportError
from dynamic_exit.onnx.export import export_part
from dynamic_exit.onnx.names import inner_graphs
from dynamic_exit.onnx.opset import NEWEST_OPSET, OLDEST_OPSET, ir_version, operator_version
from dynamic_exit.onnx.quantize import QuantizationOptions, quantize_part
from dynamic_exit.onnx.session import PartSession
from dynamic_exit.pipeline.run import run
from dynamic_exit.recipe import read_recipe


class Block(nn.Module):
    """Operators that changed between the versions: reductions, splits, resizes, GELU, norms and attention."""

    def __init__(self):
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.patch, self.head = nn.Conv2d(1, 8, 2, stride=2), nn.Linear(8, 3)

    def forward(self, image):
        x = functional.interpolate(self.patch(image), scale_factor=2.0).flatten(2).transpose(1, 2)
        x = self.norm(functional.gelu(x))
        left, right = self.mix(x, x, x, need_weights=False)[0].chunk(2, dim=2)
        x = torch.cat([left + right.amax(1, keepdim=True), right - left.mean(1, keepdim=True)], 2)
        return self.head(x.mean(1))


@pytest.fixture(scope="module")
def block():
    torch.manual_seed(0)
    return Block().eval()


IMAGES = torch.randn(5, 1, 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("opset", [OLDEST_OPSET, 18, NEWEST_OPSET])
def test_every_version_answers_alike(block, opset):
    part = export_part("a", block, ("image",), "logits", (IMAGES[:2],), opset=opset)
    assert [(each.domain, each.version) for each in part.proto.opset_import] == [("", opset)]
    assert part.proto.ir_version == ir_version(opset)
    onnx.checker.check_model(part.proto, full_check=True)
    torch.testing.assert_close(PartSession(part)(IMAGES), block(IMAGES).detach(), atol=1e-5, rtol=1e-5)
    read = {name for node in part.proto.graph.node for name in node.input}
    assert {tensor.name for tensor in part.proto.graph.initializer} <= read
    quantized = quantize_part(part, [{"image": IMAGES.numpy()}], QuantizationOptions())
    assert operator_version(quantized.proto) == opset
    torch.testing.assert_close(PartSession(quantized)(IMAGES), block(IMAGES).detach(), atol=0.1, rtol=0.1)


class Smooth(nn.Module):
    def forward(self, image):
        return functional.interpolate(image, size=(2, 2), mode="bilinear", antialias=True).flatten(1)


def test_an_operator_that_an_old_version_lacks_is_named():
    export_part("a", Smooth().eval(), ("image",), "logits", (IMAGES[:2],), opset=18)
    with pytest.raises(ExportError) as refused:
        export_part("a", Smooth().eval(), ("image",), "logits", (IMAGES[:2],), opset=17)
    assert str(refused.value) == (
        "stage 'a' has an operator Resize that opset 17 does not have; set `export.opset` to 18 or more, or leave this "
        "stage out"
    )


def test_a_recipe_says_which_version_its_files_have(ran, tmp_path):
    """With parts of another version in the cache, as `ran` left them, and a candidate of a third version."""
    recipe = tiny.recipe(export__opset=17, export__reduce_range=True)
    recipe["dynamic_exit"]["tiny_saver"]["candidates"].append({"source": "onnx", "name": "saver.onnx"})
    tiny.build(tmp_path)
    saver = export_part("s", tiny.saver().eval(), ("x",), "logits", (IMAGES[:2],), opset=19)
    onnx.save(saver.proto, tmp_path / "saver.onnx")
    result = run(read_recipe(tiny.write(tmp_path, recipe)))
    model = onnx.load(result.folder / "model.onnx")
    assert (operator_version(model), model.ir_version) == (17, 8)
    arrays = [numpy_helper.to_array(each) for graph in inner_graphs(model.graph) for each in graph.initializer]
    assert max(int(np.abs(each.astype(int)).max()) for each in arrays if each.dtype == np.int8 and each.ndim > 1) == 64
    assert result.metrics.timing.oldest_runtime == "1.15"
    assert "saver" in {row.stage for row in result.metrics.candidates if row.accuracy is not None}
