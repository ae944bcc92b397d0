"""Views of training samples: the same whenever they are computed, and mixed as they say."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamic_exit.passes.tiny_saver.makers.views import CUT, NOISE, SCALE, TOKEN_DROPOUT, Views

IMAGES = torch.randint(0, 256, (40, 3, 12, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
SERIES = torch.randn(40, 2, 60, generator=torch.Generator().manual_seed(1))
TOKENS = {
    "input_ids": torch.randint(5, 90, (40, 30), generator=torch.Generator().manual_seed(2)),
    "attention_mask": (torch.arange(30) < torch.arange(3, 43)[:, None]).long(),
}
KINDS = {"images": {"pixels": IMAGES}, "series": {"series": SERIES}, "tokens": TOKENS}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(view=st.integers(0, 6), rows=st.lists(st.integers(0, 39), min_size=1, max_size=9), seed=st.integers(0, 3))
def test_a_view_of_a_sample_does_not_hang_on_the_batch(kind, view, rows, seed):
    views = Views(KINDS[kind], "affine", True, seed)
    together = views(torch.arange(40), view)
    alone = Views(KINDS[kind], "affine", True, seed)(torch.tensor(rows), view)
    for name, tensor in KINDS[kind].items():
        assert alone[name].dtype == tensor.dtype
        assert torch.equal(alone[name], together[name][rows])


@pytest.mark.parametrize("kind", KINDS)
def test_samples_that_are_held_out_are_in_no_view_of_others(kind):
    """Else a model that learns those views has seen half of what it is to be judged by."""
    held_out = torch.tensor([3, 17, 29, 38])
    rows = torch.tensor([row for row in range(40) if row not in held_out])
    other = {name: tensor.clone() for name, tensor in KINDS[kind].items()}
    for name, tensor in other.items():
        tensor[held_out] = 0 if name.endswith("mask") else 7
    for view in range(4):
        given, changed = (Views(inputs, "affine", True, 0, rows)(rows, view) for inputs in (KINDS[kind], other))
        assert all(torch.equal(tensor, changed[name]) for name, tensor in given.items())


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_view_is_the_samples(kind):
    views = Views(KINDS[kind], "affine", True, 0)
    rows = torch.tensor([7, 3])
    assert views.name(0) == "plain"
    for name, tensor in views(rows, 0).items():
        assert torch.equal(tensor, KINDS[kind][name][rows])


@pytest.mark.parametrize("kind", ["images", "series"])
def test_no_view_is_the_samples_where_a_backbone_knows_them(kind):
    views, (given,) = Views(KINDS[kind], "affine", True, 0, plain=False), KINDS[kind].values()
    for view in range(4):
        (seen,) = views(torch.arange(40), view).values()
        assert not any(torch.equal(one, other) for one, other in zip(seen, given, strict=True))


def test_names_tell_views_apart():
    named = [
        Views(KINDS["images"], augment, mix, seed)
        for augment in ("affine", "none")
        for mix in (True, False)
        for seed in (0, 1)
    ]
    names = [views.name(view) for views in named for view in (1, 2)]
    changed = [name for name in names if name != "plain"]
    assert len(set(changed)) == len(changed) == 10, "8 of affine, and the first of two that mix without it"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("augment", ["none", "affine"])
@pytest.mark.parametrize("mix", [True, False])
def test_views_that_change_nothing_are_called_plain(kind, augment, mix):
    """So that the backbone answers them once."""
    views = Views(KINDS[kind], augment, mix, 0)
    for view in range(4):
        seen = views(torch.arange(40), view)
        same = all(torch.equal(seen[name], tensor) for name, tensor in KINDS[kind].items())
        assert (views.name(view) == "plain") == same


def test_labels_hold_where_no_two_samples_are_joined():
    assert not any(Views(TOKENS, "none", True, 0).is_mixed(view) for view in range(4))
    alone = Views({"input_ids": TOKENS["input_ids"]}, "none", True, 0)
    assert [alone.name(view) for view in range(4)] == ["plain"] * 4
    assert not any(alone.is_mixed(view) for view in range(4))


def test_mixup_weighs_two_samples():
    """Constant images stay constant, and their value is between those of the two that are mixed."""
    values = torch.arange(40.0).mul(6).reshape(40, 1, 1, 1)
    views = Views({"pixels": values.expand(40, 1, 8, 8).clone()}, "none", True, 0)
    mixed = views(torch.arange(40), 1)["pixels"]
    assert torch.allclose(mixed, mixed[:, :, :1, :1].expand_as(mixed), atol=1e-4)
    partners = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    low, high = (pick(values[:, 0, 0, 0], values[partners, 0, 0, 0]) for pick in (torch.minimum, torch.maximum))
    found = mixed[:, 0, 0, 0]
    assert ((found >= low - 1e-3) & (found <= high + 1e-3)).all()
    assert ((found - low) / (high - low).clamp(min=1)).std() > 0.1, "weights differ from sample to sample"


def test_cutmix_puts_a_rectangle_of_one_sample_into_another():
    values = torch.arange(40, dtype=torch.uint8).reshape(40, 1, 1, 1).expand(40, 1, 16, 16).clone()
    mixed = Views({"pixels": values}, "none", True, 0)(torch.arange(40), 3)["pixels"]
    partners = torch.randperm(40, generator=torch.Generator().manual_seed(3))
    for row in range(40):
        inside = mixed[row, 0] != row
        if not inside.any():
            continue
        assert mixed[row, 0][inside].unique().tolist() == [int(partners[row])]
        lines, columns = inside.any(dim=1).sum(), inside.any(dim=0).sum()
        assert int(inside.sum()) == int(lines * columns), "one rectangle"


def test_mixed_views_are_every_second_one_or_none():
    assert [Views(KINDS["series"], "none", True, 0).is_mixed(view) for view in range(5)] == [False, True] * 2 + [False]
    assert not any(Views(KINDS["series"], "none", False, 0).is_mixed(view) for view in range(5))


def test_series_keep_their_range():
    """A constant series is only scaled: what is shifted in repeats its ends, and noise follows its spread."""
    constant = torch.full((30, 1, 50), 4.0)
    view = Views({"series": constant}, "none", False, 0)(torch.arange(30), 2)["series"]
    assert torch.allclose(view, view[:, :, :1].expand_as(view))
    assert (view[:, 0, 0] / 4 - 1).abs().max() <= SCALE + 1e-5
    ramp = torch.arange(50.0).expand(30, 1, 50).clone()
    steps = Views({"series": ramp}, "none", False, 0)(torch.arange(30), 2)["series"].diff(dim=2)
    slope = steps[:, 0, 10:40].mean(dim=1)
    assert slope.min() > (1 - CUT) * (1 - SCALE) - 3 * NOISE and slope.max() < 1 + SCALE + 3 * NOISE


def test_text_loses_tokens_from_its_mask_alone():
    views = Views(TOKENS, "none", True, 0)
    batch = views(torch.arange(40), 1)
    assert torch.equal(batch["input_ids"], TOKENS["input_ids"])
    mask, before = batch["attention_mask"], TOKENS["attention_mask"]
    assert (mask <= before).all() and (mask[:, 0] == 1).all()
    lost = 1 - mask[:, 1:].sum() / before[:, 1:].sum()
    assert abs(float(lost) - TOKEN_DROPOUT) < 0.05
    assert torch.equal(views(torch.arange(40), 2)["attention_mask"], before)
