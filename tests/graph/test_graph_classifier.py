from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dynamic_exit.errors import ModelError
from dynamic_exit.graph import Classifier, Preprocessing
from dynamic_exit.graph.logits import find_logits

LOGITS, OTHER = torch.randn(2, 5), torch.randn(2, 3, 4)


class Answers(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x):
        return self.answer


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (LOGITS, None),
        ((OTHER, LOGITS), None),
        ([LOGITS, OTHER], 0),
        ({"logits": LOGITS, "embedding": torch.randn(2, 8)}, None),
        ({"scores": LOGITS, "embedding": torch.randn(2, 8)}, "scores"),
        (SimpleNamespace(logits=LOGITS, hidden=OTHER), None),
        (SimpleNamespace(scores=LOGITS), "scores"),
    ],
)
def test_logits_are_found_or_named(answer, name):
    assert find_logits(answer, name) is LOGITS
    assert Classifier(Answers(answer), logits=name)(torch.zeros(2, 1)) is LOGITS


@pytest.mark.parametrize(
    ("answer", "name", "message"),
    [
        (OTHER, None, "the output must be floating logits (N, C); got torch.float32 of 3 dimensions"),
        (
            (LOGITS, torch.randn(2, 8)),
            None,
            "one output must be floating logits (N, C) but 2 of [0, 1] are; say which one with logits=",
        ),
        ({"scores": LOGITS}, "score", "the model's answer (dict) has no output 'score'; did you mean 'scores'?"),
        ("nonsense", None, "one output must be floating logits (N, C) but str is not; say which one with logits="),
    ],
)
def test_an_answer_without_clear_logits_is_refused(answer, name, message):
    with pytest.raises(ModelError) as refusal:
        find_logits(answer, name)
    assert str(refusal.value) == message


class Keyworded(nn.Module):
    def forward(self, input_ids, attention_mask=None):
        return (input_ids * attention_mask).float()


def test_inputs_go_by_keyword_or_by_position():
    model = Keyworded()
    ids, mask = torch.arange(6).view(2, 3), torch.tensor([[1, 1, 0], [1, 0, 0]])
    expected = (ids * mask).float()
    assert torch.equal(Classifier(model, keywords=["attention_mask", "input_ids"])(mask, ids), expected)
    assert torch.equal(Classifier(model)(ids, mask), expected)
    assert Classifier(model).name_inputs(2) == ("input_ids", "attention_mask")
    with pytest.raises(ModelError, match="Keyworded takes no input 'attention_masks'; did you mean 'attention_mask'?"):
        Classifier(model, keywords=["input_ids", "attention_masks"])


def test_wrapping_leaves_the_model_alone():
    model = nn.Linear(3, 4).train()
    classifier = Classifier(model, class_order=[2, 0])
    assert classifier.model is model and model.training
    assert list(classifier.state_dict()) == ["model.weight", "model.bias"]
    x = torch.randn(2, 3)
    assert torch.equal(classifier(x), model(x)[:, [2, 0]])


def test_preprocessing_is_what_it_says():
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    pixels = images.float()
    assert Preprocessing()(pixels) is pixels
    # a convolution refuses whole numbers, so images are never handed on as such; other inputs may be token ids
    assert torch.equal(Preprocessing()(images), pixels) and Preprocessing()(images).is_floating_point()
    tokens = torch.arange(6).view(2, 3)
    assert Preprocessing()(tokens) is tokens
    prepared = Preprocessing(size=(4, 6), scale=1 / 255, mean=[0.5, 0.4, 0.3], std=[0.2, 0.2, 0.1])(images)
    resized = nn.functional.interpolate(images.float(), (4, 6), mode="bilinear", align_corners=False) / 255
    expected = (resized - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.2, 0.2, 0.1]).view(3, 1, 1)
    torch.testing.assert_close(prepared, expected)
    assert Preprocessing(scale=2.0).half()(images).dtype == torch.float16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interpolation": "biliner"}, "interpolation 'biliner' is not known; did you mean 'bilinear'?"),
        ({"size": (0, 4)}, "size must be (height, width) in whole positive pixels; got (0, 4)"),
        ({"std": [0.1, 0.0, 0.1]}, "every std must be positive; got [0.1, 0.0, 0.1]"),
        ({"mean": [0.1, 0.2], "std": [1, 1, 1]}, "mean has 2 values and std 3; give one per channel in both"),
    ],
)
def test_preprocessing_refuses_values_out_of_range(options, message):
    with pytest.raises(ModelError) as refusal:
        Preprocessing(**options)
    assert str(refusal.value) == message
