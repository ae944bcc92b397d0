"""Segments: what is masked, what is to be predicted there, and what samples are refused."""

import pytest
import torch

from dynamic_exit.errors import PassError
from dynamic_exit.passes.pretraining.segments import Segments, check_series

ROWS = torch.arange(6)


def series(length=20, channels=2):
    return torch.randn(6, channels, length, generator=torch.Generator().manual_seed(0)) + 5


def images():
    return torch.randint(0, 256, (6, 3, 9, 14), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize(("share", "masked"), [(0.5, 2), (0.3, 1), (0.75, 3), (0.6, 2)])
def test_masks_cover_the_share_in_each_sample(share, masked):
    segments = Segments(series(), 5, share, seed=0)
    masks = segments.masks(ROWS, 1)
    assert masks.shape == (6, 4) and masks.sum(dim=1).tolist() == [masked] * 6


def test_other_segments_are_masked_in_each_epoch_and_with_each_seed_alone():
    masks = Segments(series(80), 5, 0.5, seed=0).masks(ROWS, 1)
    assert torch.equal(masks[2:4], Segments(series(80), 5, 0.5, seed=0).masks(ROWS[2:4], 1))
    assert not torch.equal(masks, Segments(series(80), 5, 0.5, seed=1).masks(ROWS, 1))
    assert not torch.equal(masks, Segments(series(80), 5, 0.5, seed=0).masks(ROWS, 2))
    assert len({tuple(row) for row in masks.tolist()}) > 1


def test_whole_segments_of_series_are_hidden_and_nothing_behind_the_last():
    samples = series(23)
    segments = Segments(samples, 5, 0.5, seed=0)
    hidden, masks = segments.hide(ROWS, 1), segments.masks(ROWS, 1)
    for row in range(6):
        for place in range(23):
            masked = place < 20 and bool(masks[row, place // 5])
            expected = samples.mean(dim=(0, 2)) if masked else samples[row, :, place]
            assert torch.allclose(hidden[row, :, place], expected)


def test_whole_squares_of_images_are_hidden():
    samples = images()
    segments = Segments(samples, 4, 0.5, seed=0)
    hidden, masks = segments.hide(ROWS, 3), segments.masks(ROWS, 3)
    assert segments.grid == (2, 3) and hidden.dtype == torch.float32
    changed = (hidden != samples.float()).any(dim=1)
    for row in range(6):
        for line in range(9):
            for column in range(14):
                masked = line < 8 and column < 12 and bool(masks[row, line // 4 * 3 + column // 4])
                assert bool(changed[row, line, column]) == masked


def test_each_channel_of_each_segment_is_normalized():
    targets = Segments(series(), 5, 0.5, seed=0).targets(ROWS)
    assert targets.shape == (6, 4, 2, 5)
    assert torch.allclose(targets.mean(dim=3), torch.zeros(6, 4, 2), atol=1e-5)
    assert torch.allclose(targets.var(dim=3, unbiased=False), torch.ones(6, 4, 2), atol=0.02)


def test_a_flat_segment_has_nothing_to_predict():
    samples = series()
    samples[3, 1, 5:10] = 7.0
    assert Segments(samples, 5, 0.5, seed=0).targets(ROWS)[3, 1, 1].tolist() == [0.0] * 5
    assert Segments(torch.full((6, 1, 20), 3.0), 5, 0.5, seed=0).targets(ROWS).abs().max() == 0


@pytest.mark.parametrize("samples", [series(23), images()], ids=["series", "images"])
def test_the_loss_is_zero_for_the_targets_and_looks_at_masked_segments_alone(samples):
    segments = Segments(samples, 4, 0.5, seed=0)
    masks = segments.masks(ROWS, 1)
    predicted = torch.randn(samples.shape, generator=torch.Generator().manual_seed(1))
    cut = segments.cut(predicted)  # a view of the predictions, but for the last reshape
    assert segments.loss(predicted, ROWS, 1) == pytest.approx(
        ((cut - segments.targets(ROWS))[masks] ** 2).mean().item(), rel=1e-5
    )
    axes = range(2, samples.dim())
    for index in torch.cartesian_prod(*[torch.arange(side) for side in segments.grid]).reshape(-1, len(axes)).tolist():
        place = (slice(None), slice(None), *[slice(4 * each, 4 * each + 4) for each in index])
        number = index[0] if len(index) == 1 else index[0] * segments.grid[1] + index[1]
        predicted[place] = segments.targets(ROWS)[:, number].reshape(6, -1, *[4] * len(axes))
    assert segments.loss(predicted, ROWS, 1) < 1e-12
    others = ~masks.reshape(6, 1, *segments.grid)
    for axis in axes:
        others = others.repeat_interleave(4, dim=axis)
    whole = (slice(None), slice(None), *[slice(4 * side) for side in segments.grid])
    predicted[whole] += 100.0 * others
    assert segments.loss(predicted, ROWS, 1) < 1e-12


def test_zeros_have_a_loss_of_about_one():
    assert Segments(series(200), 10, 0.5, seed=0).loss(torch.zeros(6, 2, 200), ROWS, 1) == pytest.approx(1, abs=0.01)


BAD_OPTIONS = [
    (21, 0.5, "a segment of 21 positions is longer than the samples, of 20; give a shorter one"),
    (5, 0.1, "a mask of 0.1 masks none of 4 segments; give another share or a shorter segment"),
    (5, 0.9, "a mask of 0.9 masks all of 4 segments; give another share or a shorter segment"),
    (20, 0.5, "a mask of 0.5 masks none of 1 segments; give another share or a shorter segment"),
]


@pytest.mark.parametrize(("segment", "mask", "message"), BAD_OPTIONS)
def test_options_that_do_not_fit_the_samples_are_refused(segment, mask, message):
    with pytest.raises(PassError) as refused:
        Segments(series(), segment, mask, seed=0)
    assert str(refused.value) == message


def test_a_segment_higher_than_the_images_is_refused():
    with pytest.raises(PassError) as refused:
        Segments(images(), 12, 0.5, seed=0)
    assert str(refused.value) == "a segment of 12 positions is longer than the samples, of 9 x 14; give a shorter one"


def _with_nan():
    samples = series()
    samples[[2, 4], 0, 3] = torch.tensor([torch.nan, torch.inf])
    return samples


BAD_SAMPLES = [
    (series()[:1], "pre-training needs at least 2 samples; got 1"),
    (
        _with_nan(),
        "2 of 6 samples hold NaN or infinity, the first is sample 2; fill missing values in before",
    ),
    (
        torch.ones(4, 12, dtype=torch.int64),
        "pre-training needs samples (N, channels, length) or (N, channels, height, width), float or uint8; got int64 "
        "(4, 12)",
    ),
    (
        torch.ones(4, 12),
        "pre-training needs samples (N, channels, length) or (N, channels, height, width), float or uint8; got float32 "
        "(4, 12)",
    ),
]


@pytest.mark.parametrize(("samples", "message"), BAD_SAMPLES)
def test_samples_that_cannot_be_cut_are_refused(samples, message):
    with pytest.raises(PassError) as refused:
        check_series(samples)
    assert str(refused.value) == message
