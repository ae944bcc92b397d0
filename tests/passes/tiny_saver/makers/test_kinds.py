"""Every maker that is built in keeps one contract."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from dynamic_exit.cost import count_macs
from dynamic_exit.errors import PassError
from dynamic_exit.graph import Classifier
from dynamic_exit.onnx.export import export_part
from dynamic_exit.onnx.session import PartSession
from dynamic_exit.passes.tiny_saver.makers import MAKERS, MakerStanza, MakerTask, Teaching, choose_makers
from dynamic_exit.passes.training import TrainingRun

CLASSES, COUNT = 3, 96
LABELS = torch.arange(COUNT) % CLASSES


def _images():
    """The class is the third of the image that is bright."""
    pixels = torch.rand(COUNT, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    for row, label in enumerate(LABELS.tolist()):
        pixels[row, :, 4 * label : 4 * label + 4] += 2
    return {"pixels": pixels}


def _series():
    """The class is the number of waves."""
    time = torch.linspace(0, 6.28, 64)
    noise = 0.1 * torch.randn(COUNT, 2, 64, generator=torch.Generator().manual_seed(0))
    return {"series": torch.sin(time * (1 + 2 * LABELS)[:, None])[:, None] + noise}


def _tokens():
    """The class is the token that occurs beside common ones."""
    ids = torch.randint(10, 40, (COUNT, 16), generator=torch.Generator().manual_seed(0))
    ids[torch.arange(COUNT), torch.arange(COUNT) % 8] = 2 + LABELS
    return {"input_ids": ids, "attention_mask": (torch.arange(16) < torch.arange(COUNT)[:, None] % 6 + 10).long()}


class TextBackbone(nn.Module):
    """Embedding, two layers on each token, the mean under the mask, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(64, 8), nn.Linear(8, CLASSES)
        self.first, self.second = (nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(2))

    def forward(self, input_ids, attention_mask):
        hidden = self.second(self.first(self.embedding(input_ids)))
        mask = attention_mask[:, :, None].float()
        return self.head((hidden * mask).sum(dim=1) / mask.sum(dim=1))


def _convolutions(layer, pool, channels):
    blocks = [nn.Sequential(layer(given, 8, 3, padding=1), nn.ReLU()) for given in (channels, 8, 8)]
    return nn.Sequential(*blocks, pool(1), nn.Flatten(), nn.Linear(8, CLASSES))


def backbone_for(inputs):
    torch.manual_seed(0)
    if "input_ids" in inputs:
        return Classifier(TextBackbone().eval(), keywords=[*inputs], input_names=[*inputs]).eval()
    images = "pixels" in inputs
    layers = (nn.Conv2d, nn.AdaptiveAvgPool2d) if images else (nn.Conv1d, nn.AdaptiveAvgPool1d)
    return Classifier(_convolutions(*layers, 1 if images else 2).eval(), input_names=[*inputs]).eval()


INPUTS = {"images": _images(), "series": _series(), "tokens": _tokens()}
MADE = [
    pytest.param(name, inputs, id=f"{name}-{kind}")
    for name, maker in MAKERS.items().items()
    for kind, inputs in INPUTS.items()
    if maker.suits(inputs)
]
FAST = {"epochs": 30, "batch_size": 16, "views": 2, "patience": 30, "learning_rate": 0.01}


def teacher(name, view):
    """A backbone that knows the labels, and is unsure of them on views."""
    logits = 4.0 * nn.functional.one_hot(LABELS, CLASSES).float()
    return logits if name == "plain" else logits / 2


def make(name, inputs, **options):
    maker = MAKERS.find(name)
    fields = {key: value for key, value in FAST.items() if key in maker.Options.model_fields}
    stanza = maker.Options.model_validate({"make": name, "shares": [0.5], **fields, **options})
    return maker(stanza, MakerTask(inputs, CLASSES, backbone_for(inputs)))


def test_every_kind_of_input_has_a_maker():
    assert {param.id.split("-")[1] for param in MADE} >= {"images", "tokens"}


@pytest.mark.parametrize("name", MAKERS.names())
def test_options_have_defaults(name):
    stanza = MAKERS.find(name).Options.model_validate({"make": name})
    assert isinstance(stanza, MakerStanza) and stanza.make == name


@pytest.mark.parametrize(("name", "inputs"), MADE)
def test_architectures_are_json_and_cost_more_and_more(name, inputs):
    maker = make(name, inputs)
    family = maker.architectures(0.5)
    assert [json.loads(json.dumps(dict(each))) for each in family] == [dict(each) for each in family]
    batch = [inputs[each][:2] for each in maker.input_names]
    costs = [count_macs(Classifier(maker.build(each).eval()), batch) for each in family[:4]]
    assert costs == sorted(costs) and len(set(costs)) == len(costs)


@pytest.mark.parametrize(("name", "inputs"), MADE)
def test_it_learns_answers_alike_when_built_again_and_exports(name, inputs):
    maker = make(name, inputs)
    teaching = Teaching(inputs, LABELS, CLASSES, teacher)
    run = TrainingRun(0, f"saver '{name}'")
    architecture, model = maker.fit(maker.architectures(0.5)[0], teaching, run)
    batch = [inputs[each] for each in maker.input_names]
    with torch.no_grad():
        logits = model(*[each.float() if each.dtype == torch.uint8 else each for each in batch])
    assert logits.shape == (COUNT, CLASSES) and not model.training
    # chance is a third, and its standard error 0.05
    assert (logits.argmax(dim=1) == LABELS).float().mean() > 0.6

    again = maker.build(json.loads(json.dumps(dict(architecture))))
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval()(*batch), logits)

    dims = [{1: "length"} if each.dtype == torch.int64 else {} for each in batch]
    part = export_part("made", Classifier(model).eval(), maker.input_names, "logits", tuple(x[:2] for x in batch), dims)
    answered = PartSession(part)(*batch).numpy()
    np.testing.assert_allclose(answered, logits.numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("name", "inputs"), MADE)
def test_one_seed_makes_one_saver(name, inputs):
    maker = make(name, inputs, **({"epochs": 2} if "epochs" in MAKERS.find(name).Options.model_fields else {}))
    architecture = maker.architectures(0.5)[0]
    states = []
    for seed in (3, 3, 4):
        torch.manual_seed(int(torch.randint(1000, ())))
        made = maker.fit(architecture, Teaching(inputs, LABELS, CLASSES, teacher), TrainingRun(seed, "a saver"))
        states.append(made.model.state_dict())
    same = [all(torch.equal(states[0][key], state[key]) for key in state) for state in states[1:]]
    assert same == [True, False]


def test_too_few_samples_and_a_single_class_are_refused():
    few = {"pixels": INPUTS["images"]["pixels"][:2]}
    with pytest.raises(PassError) as refused:
        Teaching(few, LABELS[:2], CLASSES, teacher)
    assert str(refused.value) == (
        "the training split has 2 samples for 3 classes; making savers needs at least one a class, so give more or "
        "name trained candidates"
    )
    with pytest.raises(PassError) as refused:
        Teaching(INPUTS["images"], torch.ones(COUNT, dtype=torch.int64), CLASSES, teacher)
    assert str(refused.value) == (
        "all 96 samples of the training split are of class 1; making savers needs two classes, so give others or name "
        "trained candidates"
    )


def test_a_teacher_that_answers_nan_is_refused():
    teaching = Teaching(INPUTS["images"], LABELS, CLASSES, lambda name, view: torch.full((COUNT, CLASSES), torch.nan))
    maker = make("convnet", INPUTS["images"])
    with pytest.raises(PassError) as refused:
        maker.fit(maker.architectures(0.5)[0], teaching, TrainingRun(0, "a saver"))
    assert str(refused.value) == (
        "the backbone's logits on the training split hold NaN or infinity; check its weights and inputs"
    )


def test_missing_values_of_series_are_refused():
    series = INPUTS["series"]["series"].clone()
    series[[5, 9], 1, 3] = torch.nan
    with pytest.raises(PassError) as refused:
        make("series", {"series": series}).architectures(0.5)
    assert str(refused.value) == (
        "2 of 96 training series hold NaN, the first is sample 5; fill missing values in before"
    )


def test_a_smaller_resolution_without_training_is_the_backbone_behind_a_resize():
    images = {"pixels": torch.rand(COUNT, 1, 32, 24, generator=torch.Generator().manual_seed(0))}
    maker = make("resolution", images, epochs=0)
    family = maker.architectures(0.5)
    assert family[0] == {"size": [8, 4]} and family[-1] == {"size": [28, 20]}
    made = maker.fit({"size": [16, 12]}, Teaching(images, LABELS, CLASSES, teacher), TrainingRun(0, "a saver"))
    # the mean of each 2 x 2 square, which bilinear interpolation by half is
    halved = images["pixels"].unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(4, 5))
    with torch.no_grad():
        assert torch.allclose(made.model(images["pixels"]), backbone_for(images)(halved), atol=1e-5)


def test_a_backbone_of_one_size_has_no_smaller_resolution():
    images = {"pixels": torch.rand(COUNT, 1, 16, 16)}
    maker = make("resolution", images)
    fixed = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(256, CLASSES)).eval(), input_names=["pixels"])
    maker.task = MakerTask(images, CLASSES, fixed.eval())
    with pytest.raises(PassError, match="^maker 'resolution' needs a backbone that takes smaller images; "):
        maker.architectures(0.5)


def test_a_shallow_copy_starts_from_the_weights_of_the_backbone():
    inputs = INPUTS["tokens"]
    maker = make("shallow", inputs)
    assert {"cut": "first.1"} in maker.architectures(0.5)
    first, second = (maker.build({"cut": "first.1"}) for _ in range(2))
    backbone = maker.task.backbone.model
    with torch.no_grad():
        hidden = second.hidden([inputs["input_ids"], inputs["attention_mask"]])[0]
        assert torch.allclose(hidden, backbone.first(backbone.embedding(inputs["input_ids"])), atol=1e-6)
    next(second.first.parameters()).data.zero_()
    assert next(backbone.parameters()).abs().max() > 0 < next(first.first.parameters()).abs().max()


@pytest.mark.parametrize(
    ("make", "shape", "sentence"),
    [
        (
            "minirocket",
            (1, 8),
            "maker 'minirocket' takes one input of float series (channels, length), 9 steps or longer, not 'x' [1, 8] "
            "float32; those that suit it: series, shallow",
        ),
        (
            "rocket",
            (3, 10),
            "maker 'rocket' takes one input of float series (channels, length), 11 steps or longer, not 'x' [3, 10] "
            "float32; those that suit it: minirocket, series, shallow",
        ),
        (
            "convnet",
            (3, 2, 9),
            "maker 'convnet' takes one input of images, 4 x 4 pixels or more, not 'x' [3, 2, 9] float32; those that "
            "suit it: shallow",
        ),
    ],
)
def test_a_maker_says_what_it_takes(make, shape, sentence):
    with pytest.raises(PassError) as refused:
        choose_makers([MAKERS.find(make).Options(make=make)], {"x": torch.zeros(5, *shape)})
    assert str(refused.value) == sentence
