"""Masked pre-training of several architectures: they learn, alike for one seed, and bad ones are refused."""

import math
import time

import pytest
import torch
from torch import nn

import dynamic_exit
from dynamic_exit.errors import PassError
from dynamic_exit.passes.pretraining import PretrainStanza, train_masked
from dynamic_exit.passes.pretraining.reconstruction import Reconstruction
from dynamic_exit.passes.training import TrainingRun

OPTIONS = {"epochs": 40, "mask": 0.5, "segment": 8, "learning_rate": 5e-3}


def waves(count=96, length=96):
    """Sines of random frequency and phase: what is masked follows from the rest."""
    generator = torch.Generator().manual_seed(0)
    frequency, phase = torch.rand(2, count, 1, 1, generator=generator)
    time_of = torch.linspace(0, 6 * math.pi, length)
    return torch.sin(time_of * (0.8 + 0.4 * frequency) + 2 * math.pi * phase)


def stripes(count=96):
    """Images (N, 1, 16, 24) of waves in random directions."""
    return waves(count, 24)[:, :, None] * torch.linspace(-1, 1, 16)[:, None]


class Transformer(nn.Module):
    """Patches of series, two layers, features (N, T, D); with a token in front that has no position, or without."""

    def __init__(self, token=False):
        super().__init__()
        self.patches, self.positions = nn.Conv1d(1, 32, 8, 8), nn.Parameter(0.1 * torch.randn(12 + token, 32))
        self.token = nn.Parameter(torch.randn(32)) if token else None
        layer = nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def forward(self, series):
        tokens = self.patches(series).transpose(1, 2)
        if self.token is not None:
            tokens = torch.cat([self.token.expand(len(tokens), 1, 32), tokens], dim=1)
        return self.layers(tokens + self.positions)


class VisionTransformer(nn.Module):
    """Patches of images, row by row, behind a class token: features (N, 1 + T, D)."""

    def __init__(self):
        super().__init__()
        self.patches, self.token = nn.Conv2d(1, 16, 4, 4), nn.Parameter(torch.zeros(16))

    def forward(self, images):
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        return torch.cat([self.token.expand(len(tokens), 1, 16), tokens], dim=1)


class ChannelsLast(nn.Sequential):
    """Convolutions with features (N, H', W', C)."""

    def forward(self, images):
        return super().forward(images).movedim(1, -1)


def convolutions():
    return nn.Sequential(
        nn.Conv1d(1, 16, 7, 2, 3), nn.BatchNorm1d(16), nn.ReLU(), nn.Conv1d(16, 32, 9, 2, 4), nn.ReLU()
    )


def planes(kind=nn.Sequential):
    return kind(nn.Conv2d(1, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 16, 5, 2, 2), nn.ReLU())


def seeded(make, *arguments):
    torch.manual_seed(0)
    return make(*arguments).eval()


@pytest.mark.parametrize(
    ("make", "arguments", "axis", "factors"),
    [
        (convolutions, (), 1, [4]),
        (Transformer, (), 2, [8]),
        (Transformer, (True,), 2, [8]),
    ],
    ids=["convolutions", "transformer", "transformer with a token"],
)
def test_encoders_of_series_learn_to_fill_in(make, arguments, axis, factors):
    model = seeded(lambda: Reconstruction(make(*arguments).eval(), waves()))
    assert (model._axis, model.factors) == (axis, factors)
    encoder = seeded(make, *arguments)
    loss = dynamic_exit.pretrain(encoder, waves(), OPTIONS)
    assert loss < 0.6, "predicting the mean of each segment has a loss of 1"
    assert not encoder.training


@pytest.mark.parametrize(
    ("make", "axis"),
    [(planes, 1), (lambda: planes(ChannelsLast), 3), (VisionTransformer, 2)],
    ids=["2-D", "last", "vit"],
)
def test_encoders_of_images_give_values_at_all_pixels(make, axis):
    model = seeded(lambda: Reconstruction(make().eval(), stripes()))
    assert (model._axis, model.factors) == (axis, [4, 4])
    assert model(stripes(3)).shape == (3, 1, 16, 24)


def test_an_encoder_of_images_learns_to_fill_in():
    options = {**OPTIONS, "epochs": 15, "segment": 4}
    assert dynamic_exit.pretrain(seeded(planes), stripes(), options) < 0.6


def test_each_position_of_the_features_predicts_its_own_patch():
    """Value j of the patch at position i stands at i * 4 + j; where features do not divide the samples, near there."""
    model = seeded(lambda: Reconstruction(convolutions().eval(), waves()))
    model.encoder = nn.Identity()
    model.decoder = nn.Identity()
    model._axis = 1
    patches = torch.arange(96.0).reshape(24, 4).T[None]  # (N, values of a patch, positions)
    assert model(patches)[0, 0].tolist() == [float(value) for value in range(96)]
    images = seeded(lambda: Reconstruction(planes().eval(), stripes()))
    images.encoder = images.decoder = nn.Identity()
    wanted = torch.arange(16.0 * 24).reshape(16, 24)
    patches = wanted.reshape(4, 4, 6, 4).permute(1, 3, 0, 2).reshape(1, 16, 4, 6)
    assert torch.equal(images(patches)[0, 0], wanted)


def test_samples_that_features_do_not_divide_are_filled_in_too():
    assert Reconstruction(convolutions().eval(), waves(8, 97))(waves(3, 97)).shape == (3, 1, 97)


def test_one_seed_trains_one_encoder_and_leaves_the_random_state():
    states = []
    for seed in (3, 3, 4):
        encoder = seeded(convolutions)
        before = torch.get_rng_state()
        dynamic_exit.pretrain(encoder, waves(), PretrainStanza(epochs=2), seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        states.append(encoder.state_dict())
    same = [all(torch.equal(states[0][key], state[key]) for key in state) for state in states[1:]]
    assert same == [True, False]


def test_no_epoch_begins_after_the_deadline():
    options = PretrainStanza(epochs=100_000)
    started = time.monotonic()
    train_masked(seeded(convolutions), waves(), options, TrainingRun(0, "an encoder", deadline=started))
    assert time.monotonic() - started < 60


NO_FEATURES = (
    "the encoder gives {} for samples (8, 1, 96), which are no features by position; give a part that ends before the "
    "mean over positions"
)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(96, 5)), NO_FEATURES.format("(8, 5)")),
        (nn.Sequential(nn.Conv1d(1, 5, 3), nn.AdaptiveAvgPool1d(1)), NO_FEATURES.format("(8, 5, 1)")),
        (nn.GRU(96, 5, batch_first=True), NO_FEATURES.format("tuple")),
        (
            nn.Conv1d(3, 5, 3),
            "the encoder fails on samples (8, 1, 96): Given groups=1, weight of size [5, 3, 3], expected "
            "input[8, 1, 96] to have 3 channels, but got 1 channels instead",
        ),
        (nn.Identity(), "the encoder, a Identity, has no parameters to train; give another one"),
        (len, "an encoder must be a torch.nn.Module; got builtin_function_or_method"),
    ],
    ids=["flat", "pooled", "tuple", "other channels", "nothing to train", "a function"],
)
def test_encoders_without_features_by_position_are_refused(encoder, message):
    with pytest.raises(PassError) as refused:
        dynamic_exit.pretrain(encoder, waves())
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epoch": 3}, "unknown key 'pretrain.epoch'; did you mean 'epochs'?"),
        ({"mask": 1.0}, "key 'pretrain.mask' must be less than 1; got 1.0"),
        ({"mask": 0}, "key 'pretrain.mask' must be greater than 0; got 0"),
        ({"segment": 1}, "key 'pretrain.segment' must be greater than or equal to 2; got 1"),
        ({"segment": 97}, "a segment of 97 positions is longer than the samples, of 96; give a shorter one"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(PassError) as refused:
        dynamic_exit.pretrain(convolutions(), waves(), options)
    assert str(refused.value) == message
