"""What heads see: views, the file that keeps features, and the backbone run anew."""

import functools
import json
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from dynamic_exit.errors import PassError
from dynamic_exit.graph import Cut
from dynamic_exit.passes.augment import SHIFT, Affine, FlipCrop, make_augment
from dynamic_exit.passes.early_exit import FrozenBackbone
from dynamic_exit.passes.early_exit.features import CachedFeatures, FeatureRequest, LiveFeatures, fingerprint
from dynamic_exit.passes.early_exit.heads import FeatureLayout, GlobalPool, GridPool

SAMPLES = 50
ROWS = torch.tensor([3, 49, 0, 17])


class Segment(nn.Module):
    """A segment that counts the samples it has seen."""

    def __init__(self, input_names, layer):
        super().__init__()
        self.input_names, self.layer, self.seen = input_names, layer, 0

    def forward(self, tensor):
        self.seen += len(tensor)
        return self.layer(tensor)


@pytest.fixture
def segments():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
        return [Segment(("x",), nn.Conv2d(2, 4, 3, padding=1)), Segment(("hidden",), head)]


@pytest.fixture
def images():
    return torch.randn(SAMPLES, 2, 6, 6, generator=torch.Generator().manual_seed(1))


CUT = Cut(0, "conv", (4, 6, 6), 0.5, "conv")
REQUESTS = {
    (0, "global_pool"): FeatureRequest(GlobalPool(FeatureLayout.of((4, 6, 6))), ("hidden",)),
    (0, "grid_pool3"): FeatureRequest(GridPool(FeatureLayout.of((4, 6, 6)), 3), ("hidden",)),
}


def live(segments, images, augment=None):
    return LiveFeatures(FrozenBackbone(segments, [CUT], 3), REQUESTS, {"x": images}, augment)


def cached(source, folder, views=1, limit=1e9):
    return CachedFeatures(source, folder / "features.f16", views=views, limit=limit, batch_size=16)


def same(one, other, tolerance=0.0):
    features, logits = one
    others, other_logits = other
    assert features.keys() == others.keys()
    for key, value in features.items():
        torch.testing.assert_close(value, others[key], rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(logits, other_logits, rtol=tolerance, atol=tolerance)


def test_features_are_what_the_segments_give(segments, images):
    features, logits = live(segments, images).batch(ROWS, 0)
    with torch.no_grad():
        hidden = segments[0].layer(images[ROWS])
        torch.testing.assert_close(logits, segments[1].layer(hidden), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(features[0, "global_pool"], hidden.mean((2, 3)), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        features[0, "grid_pool3"], nn.functional.avg_pool2d(hidden, 2).flatten(2), rtol=1e-3, atol=1e-3
    )


def test_a_file_gives_the_same_and_runs_the_backbone_once(segments, images, tmp_path, log_lines):
    source = live(segments, images)
    file = cached(source, tmp_path)
    assert file.columns == 4 + 4 * 9 + 3
    assert (tmp_path / "features.f16").stat().st_size == file.bytes == SAMPLES * (4 + 36 + 3) * 2
    assert log_lines[0].startswith("features: 50 samples x 1 views x 43 values, 0.0 MB in '")
    seen = segments[0].seen
    for epoch in range(3):
        same(file.batch(ROWS, epoch), source.batch(ROWS, epoch), 1e-3)  # one float16 step: other batches, other sums
    assert segments[0].seen == seen + 3 * len(ROWS)


def test_every_epoch_sees_the_next_view_and_each_sample_all_of_them(segments, images, tmp_path):
    augment = FlipCrop(SAMPLES, 5)
    source = live(segments, images, augment)
    file = cached(source, tmp_path, views=3)
    rows = torch.arange(SAMPLES)
    truth = torch.stack([source.batch(rows, view)[0][0, "grid_pool3"] for view in range(3)])
    found = torch.stack([file.batch(rows, epoch)[0][0, "grid_pool3"] for epoch in range(4)])
    first = file._starts
    assert set(first.tolist()) == {0, 1, 2}
    for epoch in range(4):
        torch.testing.assert_close(found[epoch], truth[(first + epoch) % 3, rows], rtol=1e-2, atol=1e-2)


def test_a_filled_file_is_used_again(segments, images, tmp_path, log_lines):
    first = cached(live(segments, images), tmp_path)
    before = (tmp_path / "features.f16").stat().st_mtime_ns
    second = cached(live(segments, images), tmp_path)
    assert (tmp_path / "features.f16").stat().st_mtime_ns == before
    assert log_lines[-1].startswith("features: taken from '")
    same(first.batch(ROWS, 0), second.batch(ROWS, 0))


@pytest.mark.parametrize("change", ["inputs", "backbone", "views", "cut short"])
def test_a_file_of_something_else_is_filled_anew(segments, images, tmp_path, change):
    augment = FlipCrop(SAMPLES, 5)
    cached(live(segments, images, augment), tmp_path)
    views = 1
    if change == "inputs":
        images = images.flip(0)
    elif change == "backbone":
        nn.init.ones_(segments[0].layer.weight)
    elif change == "views":
        views = 2
    else:
        with open(tmp_path / "features.f16", "r+b") as file:
            file.truncate(100)
    source, seen = live(segments, images, augment), segments[0].seen
    file = cached(source, tmp_path, views)
    assert segments[0].seen >= seen + SAMPLES * views, "the backbone has run on every view"
    view = int(file._starts[0])
    same(file.batch(torch.tensor([0]), 0), source.batch(torch.tensor([0]), view), 1e-3)


def test_a_file_that_was_being_filled_is_not_taken_for_a_whole_one(segments, images, tmp_path):
    source, calls = live(segments, images), []

    class Stopped(Exception):
        pass

    def stop(*_):
        calls.append(1)
        if len(calls) > 4:
            raise Stopped

    handle = segments[0].register_forward_hook(stop)
    with pytest.raises(Stopped):
        cached(source, tmp_path)
    assert list(tmp_path.iterdir()) == []
    handle.remove()
    same(cached(source, tmp_path).batch(ROWS, 0), source.batch(ROWS, 0), 1e-3)


def test_no_room_is_refused_before_anything_is_filled(segments, images, tmp_path, monkeypatch):
    source = live(segments, images)
    with pytest.raises(PassError) as refused:
        cached(source, tmp_path, limit=1000)
    assert str(refused.value) == (
        "the features of the training split take 0.0 MB, more than the `cache_limit` of 1e-06 GB; raise it, set "
        "`cache: none`, or take fewer views, positions or samples"
    )
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(PassError, match=r"' has 0\.0 MB left; make room or set `cache: none`$"):
        cached(source, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert segments[0].seen < SAMPLES


def test_nan_in_the_backbone_is_refused_by_place(segments, images):
    images[3, 0, 0, 0] = torch.nan
    with pytest.raises(PassError, match="^the backbone gives NaN at 'conv' on the training split"):
        live(segments, images).batch(ROWS, 0)


def test_values_beyond_float16_are_held_at_its_end(segments, images):
    features, _ = live(segments, images * 1e6).batch(ROWS, 0)
    assert features[0, "grid_pool3"].abs().max() == np.finfo(np.float16).max


def by_hand(image, down, right, flip):
    padded = np.pad(image, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)))
    cut = padded[:, down : down + image.shape[1], right : right + image.shape[2]]
    return cut[:, :, ::-1] if flip else cut


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_views_are_moved_and_mirrored_images(dtype):
    images = torch.randint(1, 250, (30, 2, 6, 5), generator=torch.Generator().manual_seed(0)).to(dtype)
    views = FlipCrop(30, 1)(images, torch.arange(30), 0)
    assert views.dtype == dtype
    places = set()
    for image, view in zip(images.numpy(), views.numpy(), strict=True):
        fitting = [
            (down, right, flip)
            for down in range(2 * SHIFT + 1)
            for right in range(2 * SHIFT + 1)
            for flip in (False, True)
            if np.array_equal(by_hand(image, down, right, flip), view)
        ]
        assert fitting
        places.add(fitting[0])
    assert len(places) > 20
    assert {flip for *_, flip in places} == {False, True}


@pytest.mark.parametrize("kind", [FlipCrop, Affine])
def test_a_view_is_the_same_in_any_batch_and_differs_from_the_next(kind):
    images = torch.randn(20, 1, 8, 8)
    augment, rows = kind(20, 7), torch.arange(20)
    whole = [augment(images, rows, view) for view in range(2)]
    assert not torch.equal(*whole)
    picked = torch.tensor([5, 2, 11])
    torch.testing.assert_close(augment(images[picked], picked, 0), whole[0][picked])
    assert not torch.equal(kind(20, 8)(images, rows, 0), whole[0])


def test_names_of_a_recipe_give_their_augmentation():
    assert make_augment("none", 20, 7) is None
    images, rows = torch.randn(20, 1, 8, 8), torch.arange(20)
    for name, kind in (("flip_crop", FlipCrop), ("affine", Affine)):
        assert torch.equal(make_augment(name, 20, 7)(images, rows, 3), kind(20, 7)(images, rows, 3))


def test_turned_scaled_and_moved_by_hand():
    """A bright pixel goes where the drawn numbers say; an image without change stays as it is."""
    images = torch.zeros(1, 1, 41, 21)
    images[0, 0, 10, 10] = 100.0
    still = torch.tensor([[0.5], [0.5], [0.5], [0.5], [0.9]])
    augment = Affine(1, 0)
    same = functools.partial(torch.testing.assert_close, atol=1e-3, rtol=0)  # of values up to 200
    same(augment.view(images, still), images)
    assert torch.equal(augment.view(images.to(torch.uint8), still), images.to(torch.uint8))
    moved = still.clone()
    moved[2] = 1.0  # looks 0.1 of half the height further down: the pixel goes up by 2.05
    assert augment.view(images, moved)[0, 0].argmax() == 8 * 21 + 10
    mirrored = still.clone()
    mirrored[4] = 0.1
    images[0, 0, 10, 3] = 200.0
    same(augment.view(images, mirrored), images.flip(3))
    turned = still.clone()
    turned[0] = 1.0  # by 15 degrees around the middle: 10 rows above it, it goes 10 sin 15 = 2.6 to the side
    images[0, 0, 10, 3] = 0.0
    found = augment.view(images, turned)[0, 0]
    row, column = divmod(int(found.argmax()), 21)
    assert (row, abs(column - 10)) == (10, 3)


@pytest.mark.parametrize("kind", [FlipCrop, Affine])
def test_views_of_what_is_no_image_are_refused(kind):
    with pytest.raises(PassError, match=r"^`augment` needs images \(N, C, H, W\); got inputs \(2, 5\), so set it"):
        kind(2, 0)(torch.zeros(2, 5), torch.arange(2), 0)


def test_fingerprints_differ_by_type_shape_and_value():
    zeros = torch.zeros(2, 2)
    marks = [fingerprint(each) for each in (zeros, zeros.flatten(), zeros.int(), zeros + 1)]
    assert len(set(marks)) == 4
    assert fingerprint(zeros.clone()) == marks[0]
    assert json.dumps(marks)
