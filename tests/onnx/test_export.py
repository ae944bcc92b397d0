"""Export of single modules."""

import pytest
import torch
from torch import nn

from dynamic_exit.errors import ExportError
from dynamic_exit.graph import Classifier, capture, split
from dynamic_exit.onnx.export import export_part
from dynamic_exit.onnx.part import BATCH


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
