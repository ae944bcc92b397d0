"""Features of ROCKET and MiniRocket are those of aeon, and only the kernels chosen are computed."""

import json

import aeon_kernels
import numpy as np
import pytest
import torch
from aeon_kernels import CHANNELS, CONVERT, KINDS

from dynamic_exit.cost import count_macs
from dynamic_exit.passes.tiny_saver.makers.rocket import MiniRocketFeatures, RocketFeatures
from dynamic_exit.passes.tiny_saver.makers.rocket.features import GroupShape, standardize_series
from dynamic_exit.passes.tiny_saver.makers.rocket.minirocket_features import spread_biases

CLASSES = {"rocket": RocketFeatures, "minirocket": MiniRocketFeatures}
EACH_KIND = pytest.mark.parametrize("kind", KINDS)


def series(channels=1, length=50, samples=6, seed=0):
    return torch.from_numpy(aeon_kernels.random_series(samples, channels, length, seed))


def assert_same_features(kind, values, kernels, expected):
    features, order = CONVERT[kind](kernels, values.shape[1])
    with torch.no_grad():
        found = features(torch.from_numpy(values)).numpy()
    assert found.shape == expected.shape and sorted(order) == list(range(expected.shape[1]))
    differs = ~np.isclose(found, expected[:, order], rtol=1e-4, atol=1e-4)
    # an output may equal the bias it is compared with, and sums in another order then fall on its other side
    assert differs.mean() < 1e-3
    outputs = min(group.output_length(values.shape[2]) for group in features.kernel_groups)
    assert abs(found - expected[:, order])[differs].max(initial=0) < 1.01 / outputs


@EACH_KIND
@pytest.mark.parametrize("channels", CHANNELS)
def test_every_feature_is_what_aeon_computed_with_the_same_kernels(kind, channels):
    assert_same_features(kind, *aeon_kernels.read_reference(kind, channels))


@EACH_KIND
@pytest.mark.parametrize(("channels", "length"), [(1, 24), (1, 200), (12, 90)])
def test_every_feature_is_what_aeon_computes_now(kind, channels, length):
    pytest.importorskip("aeon", reason="aeon is not installed: it needs other versions than constraints.txt has")
    values = aeon_kernels.random_series(4, channels, length, length)
    assert_same_features(kind, values, *aeon_kernels.run_aeon(kind, values, 2000, 3))


def test_random_kernels_follow_the_distributions_of_the_paper():
    features = RocketFeatures.random(4000, 5, 100, 0)
    groups = features.kernel_groups
    assert features.kernel_count == 4000
    for length in (7, 9, 11):
        assert sum(len(group) for group in groups if group.shape.length == length) == pytest.approx(4000 / 3, rel=0.1)
    assert all((group.shape.length - 1) * group.dilation <= 99 for group in groups)
    assert all(group.padding in (0, (group.shape.length - 1) * group.dilation // 2) for group in groups)
    padded = sum(len(group) for group in groups if group.padding)
    assert padded == pytest.approx(2000, rel=0.1)
    weights = torch.cat([group.weight.flatten(0, 1)[:, :7] for group in groups if group.shape.length == 7])
    used = weights[weights.abs().sum(1) > 0]
    assert used.sum(1).abs().max() < 1e-5, "centered by channel"
    assert float(used.std()) == pytest.approx((6 / 7) ** 0.5, rel=0.05)
    looks_at = torch.cat([(group.weight.abs().sum(2) > 0).sum(1) for group in groups])
    assert looks_at.min() == 1 and looks_at.max() == 5
    biases = torch.cat([group.bias for group in groups])
    assert biases.min() > -1 and biases.max() < 1 and biases.std() == pytest.approx(3**-0.5, rel=0.05)


def test_biases_of_minirocket_are_quantiles_of_training_outputs():
    one = series(samples=1)
    features = MiniRocketFeatures.fit(one, 84 * 20, 0)
    for group, name in zip(features.kernel_groups, range(99), strict=False):
        if group.padding:
            output = group.convolve(one)[0]
            share = (output[:, None] > group.bias[:, :, None]).float().mean(2)
            assert group.bias.min() >= output.min() and group.bias.max() <= output.max(), name
            assert share.std() > 0.2
    assert len(features(one)[0]) == 84 * 20


@pytest.mark.parametrize(("length", "biases"), [(9, 1), (24, 7), (100, 119), (1000, 31)])
def test_biases_are_spread_over_dilations_that_fit(length, biases):
    dilations, counts = spread_biases(length, biases)
    assert counts.sum() == biases and (counts > 0).all()
    assert dilations[0] == 1 and 8 * dilations[-1] < length and len(set(dilations)) == len(dilations)


@EACH_KIND
@pytest.mark.parametrize("channels", CHANNELS)
def test_chosen_kernels_give_the_same_features_for_their_share_of_the_multiply_adds(kind, channels):
    values = series(channels)
    features = CLASSES[kind].fit(values, 300, 0)
    costs, all_features = features.kernel_macs(50), features(values)
    assert count_macs(features, [values]) == pytest.approx(float(costs.sum()))
    chosen = torch.rand(features.kernel_count, generator=torch.Generator().manual_seed(0)) < 0.1
    fewer = features.select(chosen)
    assert torch.allclose(fewer(values), all_features[:, chosen[features.kernel_of_feature()]], atol=1e-5)
    assert count_macs(fewer, [values]) == pytest.approx(float(costs[chosen].sum()))
    assert len(fewer.kernel_groups) <= len(features.kernel_groups) and all(len(group) for group in fewer.kernel_groups)


@EACH_KIND
def test_a_state_fits_features_of_the_same_shapes(kind):
    values = series(2)
    features = CLASSES[kind].fit(values, 200, 0)
    shapes = json.loads(json.dumps([group.shape for group in features.kernel_groups]))
    again = CLASSES[kind].of_shapes([GroupShape(*shape) for shape in shapes], 2)
    again.load_state_dict(features.state_dict())
    assert torch.equal(again(values), features(values)) and not list(features.parameters())


@EACH_KIND
def test_one_seed_makes_the_same_kernels(kind):
    first, same, other = (CLASSES[kind].fit(series(3), 200, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert any(key not in other or not torch.equal(first[key], other[key]) for key in first)


@EACH_KIND
def test_batches_do_not_change_features(kind):
    values = series(2, samples=40)
    features = CLASSES[kind].fit(values, 200, 0)
    assert torch.allclose(features.compute(values), features(values), atol=1e-5)


def test_series_are_standardized_by_channel_and_constant_ones_become_zero():
    values = torch.stack([series(samples=1)[0, 0] * 100 + 7, torch.full((50,), 0.1), torch.zeros(50)])[None]
    found = standardize_series(values)
    assert found[0, 0].mean().abs() < 1e-5 and found[0, 0].square().mean() == pytest.approx(1, abs=1e-4)
    assert found[0, 1:].abs().max() < 1e-6
