"""The committed weights are those of the models that the tests make, and know what the tests count on."""

import make_weights
import numpy as np
import pytest
import sentences
import tiny
import torch
from safetensors.torch import load_file


def answers(model, name, split):
    """Probabilities (N, C) and labels."""
    inputs, labels = make_weights.data(name, split)
    with torch.no_grad():
        answer = model(*map(torch.from_numpy, inputs))
    return getattr(answer, "logits", answer).softmax(1).numpy(), labels


def test_there_is_one_file_a_model_and_all_are_small():
    assert {path.stem for path in tiny.WEIGHTS.iterdir()} == set(make_weights.models())
    assert sum(path.stat().st_size for path in tiny.WEIGHTS.iterdir()) < 300_000


@pytest.mark.parametrize("name", make_weights.models())
def test_weights_have_the_models_names_shapes_and_types(name):
    def described(state):
        return {key: (tuple(value.shape), value.dtype) for key, value in state.items()}

    found = load_file(tiny.WEIGHTS / f"{name}.safetensors")
    assert described(found) == described(make_weights.models()[name]().state_dict())
    assert all(value.isfinite().all() for value in found.values() if value.is_floating_point())


@pytest.mark.parametrize("name", make_weights.PLANS)
def test_the_script_still_trains_each_model(name, monkeypatch):
    """One epoch: enough to see that script, model and data fit; what a whole training gives is in the files."""
    monkeypatch.setitem(make_weights.PLANS, name, (1, *make_weights.PLANS[name][1:]))
    with torch.random.fork_rng():
        trained = make_weights.train(name).state_dict()
    found = load_file(tiny.WEIGHTS / f"{name}.safetensors")
    assert trained.keys() == found.keys()
    assert any(not torch.equal(trained[key], found[key]) for key in found)


@pytest.mark.parametrize(
    ("name", "model", "split", "low", "high"),
    [
        ("backbone8", tiny.backbone, "test", 0.95, 1.0),
        ("saver2", tiny.saver, "test", 0.75, 0.88),
        ("saver4", lambda: tiny.saver(4), "test", 0.75, 0.88),
        ("bert", sentences.backbone, "dev", 0.99, 1.0),
        ("distilbert", lambda: sentences.backbone("DistilBert"), "dev", 0.8, 0.9),
    ],
)
def test_models_know_what_the_worlds_promise(name, model, split, low, high):
    found, labels = answers(model(), name, split)
    assert low <= (found.argmax(1) == labels).mean() <= high


def test_a_small_bag_is_torn_by_not_and_a_larger_one_is_not():
    turned = np.array(["not" in text.split() for text, _ in sentences.lines("dev")])
    assert 0.25 < turned.mean() < 0.4
    found, labels = answers(sentences.bag(), "bag2", "dev")
    assert (found[turned] == 0.5).all()
    assert (found[~turned].argmax(1) == labels[~turned]).all() and found[~turned].max(1).min() > 0.85
    found, labels = answers(sentences.bag(4), "bag4", "dev")
    assert (found.argmax(1) == labels).all() and found.max(1).min() > 0.85
