"""Pruning by Neural Compressor's own calls: inputs of any number, and no labels."""

import copy

import pytest
import sentences
import tiny
import torch
from neural_compressor.torch.quantization import quantize
from torch import nn

from dynamic_exit import PruningConfig, compress
from dynamic_exit.errors import PassError
from dynamic_exit.passes.pruning.attention import find_attentions

IMAGES = torch.from_numpy(tiny.samples("train")[0])
TEXTS = {
    "input_ids": torch.randint(0, len(sentences.VOCABULARY), (8, 10), generator=torch.Generator().manual_seed(0)),
    "attention_mask": torch.ones(8, 10, dtype=torch.int64),
}


def feed(model):
    model(IMAGES)


def feed_texts(model):
    for part in (slice(0, 4), slice(4, 8)):
        model(**{name: tensor[part] for name, tensor in TEXTS.items()})


def agreement(model, other):
    with torch.no_grad():
        return (model(IMAGES).argmax(1) == other(IMAGES).argmax(1)).double().mean()


@pytest.mark.parametrize("given", [{"run_fn": feed_texts}, {"example_inputs": TEXTS}], ids=["run_fn", "example_inputs"])
def test_a_model_of_inputs_by_name(given):
    model = sentences.backbone("Bert").eval()
    before = copy.deepcopy(model.state_dict())
    pruned = quantize(model, PruningConfig(ratio=0.5), **given)
    assert type(pruned) is type(model)
    pairs = zip(find_attentions(model), find_attentions(pruned), strict=True)
    assert all(after.heads == -(-before.heads // 2) for before, after in pairs)
    assert pruned(**TEXTS).logits.shape == model(**TEXTS).logits.shape
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_calibration_inputs_teach_the_pruned_model_to_answer_as_before():
    model = tiny.backbone()
    options = {"epochs": 8, "learning_rate": 0.01, "distillation": 1.0}
    untrained = compress(model, PruningConfig(ratio=0.5, fine_tune={"epochs": 0}), run_fn=feed)
    taught = compress(model, PruningConfig(ratio=0.5, fine_tune=options), run_fn=feed)
    assert agreement(untrained, model) < 0.9 < agreement(taught, model)


def test_target_cost_and_measures_that_need_samples():
    config = PruningConfig(target_cost=0.5, importance="taylor", scope="global")
    assert PruningConfig.from_dict(config.to_dict()) == config
    pruned = compress(tiny.backbone(), config, run_fn=feed)
    assert sum(p.numel() for p in pruned.parameters()) < 0.7 * sum(p.numel() for p in tiny.backbone().parameters())
    with pytest.raises(PassError, match="^importance 'taylor' needs samples to take gradients on, and there are none"):
        quantize(tiny.backbone(), config, example_inputs=IMAGES[:2])


def mixed(model):
    model(IMAGES[:4])
    model(IMAGES[:4], IMAGES[:4])


class Loose(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = tiny.backbone()

    def forward(self, images, other=None, factor=1.0):
        return self.inner(images) * factor


@pytest.mark.parametrize(
    ("feeding", "message"),
    [
        (mixed, "`run_fn` gives pass 'pruning' its input in different ways; use one name in all calls"),
        (lambda model: model(IMAGES, factor=2.0),
         "pass 'pruning' takes tensors, all by position or all by name; `run_fn` gives Tensor, factor; run a recipe "
         "instead"),
        (lambda model: model(IMAGES[:3]),
         "`run_fn` gave pass 'pruning' fewer than 4 samples; let it call the model on more batches"),
    ],
)  # fmt: skip
def test_calls_that_cannot_be_used(feeding, message):
    with pytest.raises(PassError) as refused:
        compress(Loose().eval(), PruningConfig(), run_fn=feeding)
    assert str(refused.value) == message


def test_local_configs_hold_ratios():
    config = PruningConfig(target_cost=0.5).set_local("block2", PruningConfig(target_cost=0.5))
    with pytest.raises(PassError) as refused:
        quantize(tiny.backbone(), config, example_inputs=IMAGES[:2])
    assert str(refused.value) == (
        "pass 'pruning' has `target_cost` for 'block2', but it counts the whole model; set `ratio`"
    )
    config = PruningConfig(target_cost=0.5).set_local("block4", PruningConfig(ratio=0.0))
    pruned = quantize(tiny.backbone(), config, example_inputs=IMAGES[:2])
    assert pruned.block4[0].out_channels == 8
