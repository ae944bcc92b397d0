import copy

import numpy as np
import pytest
import torch
from torch import nn

from dynamic_exit.errors import CaptureError
from dynamic_exit.graph import Classifier, Preprocessing, capture


def mlp():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 4)).eval()


def test_a_model_is_captured_and_left_bit_identical():
    model = mlp()
    before = copy.deepcopy(model.state_dict())
    program = capture(Classifier(model), (torch.zeros(2, 6),))
    assert (program.route, program.classes, program.input_names) == ("export", 4, ("input",))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(each.training for each in model.modules())
    for parameter, own in zip(program.graph_module.parameters(), model.parameters(), strict=True):
        assert parameter.data_ptr() == own.data_ptr()
    for rows in (1, 2, 7):
        x = torch.randn(rows, 6)
        assert torch.equal(program.graph_module(x), model(x))


class Branching(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x
        return -x


class Transposing(nn.Module):
    def forward(self, x):
        return x.transpose(0, 1)


class Writing(nn.Module):
    def forward(self, x):
        x.mul_(2)
        return x + 1


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return x * 2


class Mixing(nn.Module):
    def forward(self, x):
        return x - x.mean(0, keepdim=True)


class Fixed(nn.Module):
    def forward(self, x):
        return x.reshape(2, 3, -1).sum(1)


X = torch.ones(2, 4)


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        (mlp().train(), (torch.ones(2, 6),), "Sequential cannot be captured while it is in training mode"),
        (Branching(), (X,), "Branching cannot be captured: `if x.sum() > 0:` (test_graph_capture.py:"),
        (Transposing(), (X,), "the output's first dimension is 4, not the batch of 'x'; the batch must come"),
        (Writing(), (X,), "the model changes its input 'x' in place; let it work on a clone"),
        (Counting(), (X,), "the model changes its buffer 'calls' in the forward pass; make it read only"),
        (Mixing(), (X,), "a sample's logits depend on its neighbours in the batch; rows must be independent"),
        (
            nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False)),
            (X,),
            "'1' normalizes with batch statistics; give it running statistics",
        ),
        (Fixed(), (torch.ones(2, 12),), "the output's first dimension is 2, not the batch of 'x'; the batch must come"),
        (mlp(), (torch.ones(1, 6),), "an example batch of 1 would fix the batch size; give two or more rows"),
        (mlp(), (), "example inputs must be tensors with the batch first; got []"),
        (mlp(), (np.ones((2, 6)),), "example inputs must be tensors with the batch first; got ['ndarray']"),
        (
            nn.Bilinear(4, 4, 3),
            (X, torch.ones(3, 4)),
            "the first dimension of every input must be the batch; got the shapes [(2, 4), (3, 4)]",
        ),
        (nn.Flatten(0), (X,), "the output must be floating logits (N, C); got the shape ('4*batch',)"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(model, inputs, message, capfd):
    if "training" not in message:
        model.eval()
    with pytest.raises(CaptureError) as refusal:
        capture(Classifier(model), inputs)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
    # torch prints pages of graph on some of these
    assert "def forward" not in "".join(capfd.readouterr())


@torch.fx.wrap
def through_numpy(x):
    return torch.from_numpy(np.tanh(x.detach().numpy()))


class Foreign(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(6, 8), nn.Linear(8, 4)

    def forward(self, x):
        return self.two(through_numpy(self.one(x)))


def test_torch_fx_takes_what_torch_export_refuses():
    model = Foreign().eval()
    program = capture(Classifier(model), (torch.zeros(2, 6),))
    assert program.route == "fx"
    x = torch.randn(5, 6)
    assert torch.equal(program.graph_module(x), model(x))


class Text(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(20, 8), nn.Linear(8, 3)

    def forward(self, input_ids, attention_mask):
        mask = attention_mask.unsqueeze(-1).float()
        return {"logits": self.head((self.embed(input_ids) * mask).sum(1) / mask.sum(1))}


def test_text_has_a_free_length():
    model = Text().eval()
    ids = torch.randint(0, 20, (2, 7))
    program = capture(Classifier(model, keywords=["input_ids", "attention_mask"]), (ids, torch.ones_like(ids)))
    assert [program.shapes[place.name] for place in program.placeholders] == [("batch", "length")] * 2
    ids = torch.randint(0, 20, (3, 11))
    assert torch.equal(program.graph_module(ids, torch.ones_like(ids)), model(ids, torch.ones_like(ids))["logits"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_and_integer_images(dtype):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    model = model.eval().to(dtype)
    preprocessing = Preprocessing(scale=1 / 255, mean=[0.5], std=[0.2]).to(dtype)
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    classifier = Classifier(model, preprocessing=preprocessing)
    program = capture(classifier, (images,))
    assert torch.equal(program.graph_module(images), classifier(images))
