"""How many tokens a text has: free where the model allows it, else fixed, with the reason."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from dynamic_exit.errors import ExportError
from dynamic_exit.graph import Classifier, capture, split
from dynamic_exit.onnx.export import export_part

IDS = torch.arange(14).reshape(2, 7) % 10
NAMES = ["input_ids", "attention_mask"]


class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.layer = nn.Embedding(10, 4), nn.Linear(4, 3)

    def forward(self, input_ids, attention_mask):
        real = attention_mask.unsqueeze(2).float()
        return self.layer((self.words(input_ids) * real).sum(1) / real.sum(1))


class Flat(Pooled):
    """Its matrix is for seven tokens."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(28, 3)

    def forward(self, input_ids, attention_mask):
        return self.layer((self.words(input_ids) * attention_mask.unsqueeze(2)).flatten(1))


class Branching(Pooled):
    """Answers short texts otherwise, which a graph does not show."""

    def forward(self, input_ids, attention_mask):
        logits = super().forward(input_ids, attention_mask)
        return logits if input_ids.shape[1] > 5 else -logits


class Odd(Pooled):
    """Answers texts of an even length otherwise."""

    def forward(self, input_ids, attention_mask):
        logits = super().forward(input_ids, attention_mask)
        return logits if input_ids.shape[1] % 2 else -logits


class OnlyLong(Pooled):
    """Takes no text below five tokens."""

    def forward(self, input_ids, attention_mask):
        if input_ids.shape[1] < 5:
            raise ValueError("too short")
        return super().forward(input_ids, attention_mask)


def captured(model):
    return capture(Classifier(model.eval(), keywords=NAMES), (IDS, torch.ones_like(IDS)))


@pytest.mark.parametrize("model", [Pooled, OnlyLong])
def test_the_length_is_free_where_the_model_allows_it(model):
    program = captured(model())
    assert program.fixed_length is None
    assert [program.shapes[node.name] for node in program.placeholders] == [("batch", "length")] * 2


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Flat, "the model's code treats the length 7 as a constant"),
        (Branching, "its graph fails with 4 tokens: "),
        (Odd, "its code takes another branch for 4 tokens than for 7"),
    ],
)
def test_else_it_is_fixed_and_the_reason_is_known(model, reason):
    program = captured(model())
    assert program.fixed_length.startswith(reason)
    assert [program.shapes[node.name] for node in program.placeholders] == [("batch", 7)] * 2
    ids = IDS.flip(1)
    torch.testing.assert_close(
        program.graph_module(ids, torch.ones_like(ids)), model().eval()(ids, torch.ones_like(ids))
    )


def test_images_and_positional_inputs_have_no_free_length():
    program = capture(Classifier(Pooled().eval()), (IDS, torch.ones_like(IDS)))
    assert program.fixed_length is None
    assert [program.shapes[node.name] for node in program.placeholders] == [("batch", 7)] * 2


def test_a_part_names_its_free_dimensions():
    (segment,) = split(captured(Pooled()), [])
    part = export_part("all", segment, segment.input_names, "logits", segment.example_inputs)
    shapes = [
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*part.proto.graph.input, *part.proto.graph.output)
    ]
    assert shapes == [["batch", "length"], ["batch", "length"], ["batch", 3]]
    session = onnxruntime.InferenceSession(part.proto.SerializeToString())
    ids = np.arange(15).reshape(1, 15) % 10
    found = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]
    expected = Pooled()(torch.from_numpy(ids), torch.ones(1, 15)).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_part_that_cannot_leave_a_dimension_free_is_refused():
    class Fixed(nn.Module):
        def forward(self, ids):
            return ids.new_zeros(ids.shape[0], 3).float() + int(ids.shape[1])

    with pytest.raises(ExportError, match="stage 'saver' takes ids of 7 in dimension 1 alone, where the backbone"):
        export_part("saver", Fixed().eval(), ["ids"], "logits", (IDS,), [{1: "length"}])
