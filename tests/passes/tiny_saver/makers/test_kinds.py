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
from dynamic_exit.passes.tiny_saver.makers import MAKERS, MakerStanza, MakerTask, Teaching
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


INPUTS = {"images": _images(), "series": _series(), "tokens": _tokens()}
MADE = [
    pytest.param(name, inputs, id=f"{name}-{kind}")
    for name, maker in MAKERS.items().items()
    for kind, inputs in INPUTS.items()
    if maker.suits(inputs)
]
FAST = {"epochs": 30, "batch_size": 16, "views": 2, "patience": 30}


def teacher(name, view):
    """A backbone that knows the labels, and is unsure of them on views."""
    logits = 4.0 * nn.functional.one_hot(LABELS, CLASSES).float()
    return logits if name == "plain" else logits / 2


def make(name, inputs, **options):
    maker = MAKERS.find(name)
    fields = {key: value for key, value in FAST.items() if key in maker.Options.model_fields}
    stanza = maker.Options.model_validate({"make": name, "shares": [0.5], **fields, **options})
    return maker(stanza, MakerTask(inputs, CLASSES, nn.Identity()))


def test_every_kind_of_input_has_a_maker():
    assert {param.id.split("-")[1] for param in MADE} >= {"images"}


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
    assert (logits.argmax(dim=1) == LABELS).float().mean() > 0.8

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
