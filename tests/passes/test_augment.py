"""Views by the user's own function: named in a recipe, drawn from the seed, refused in one sentence."""

import pytest
import torch
from tiny import recipe

from dynamic_exit.errors import PassError, RecipeError
from dynamic_exit.passes.augment import make_augment
from dynamic_exit.recipe import parse_recipe, recipe_text

OWN = """
import torch


def noise(sample, generator):
    sample += torch.randn(sample.shape, generator=generator)
    return sample


def shorter(sample, generator):
    return sample[1:]


def failing(sample, generator):
    raise ValueError("no such colour")
"""
SAMPLES = torch.arange(40.0).view(10, 4)


@pytest.fixture
def place(tmp_path):
    (tmp_path / "views.py").write_text(OWN)
    return tmp_path / "views.py"


def test_a_view_is_the_same_in_any_batch_and_leaves_the_samples(place):
    augment, rows, before = make_augment(f"{place}:noise", 10, 7), torch.arange(10), SAMPLES.clone()
    whole = [augment(SAMPLES, rows, view) for view in range(2)]
    assert torch.equal(SAMPLES, before)
    picked = torch.tensor([5, 2, 9])
    assert torch.equal(augment(SAMPLES[picked], picked, 1), whole[1][picked])
    drawn = torch.stack(
        [whole[0] - SAMPLES, whole[1] - SAMPLES, make_augment(f"{place}:noise", 10, 8)(SAMPLES, rows, 0) - SAMPLES]
    )
    assert len(drawn.flatten().unique()) == drawn.numel()
    assert drawn.abs().mean() == pytest.approx(0.8, abs=0.2)


@pytest.mark.parametrize(
    "name, error, message",
    [
        ("shorter", PassError, r"must return a tensor like the sample, torch.float32 \[4\]; got torch.float32 \[3\]$"),
        ("failing", PassError, r"fails on sample 0: (ValueError: )?no such colour$"),
        ("noisy", RecipeError, r"has no function 'noisy'; did you mean 'noise'\?"),
    ],
)
def test_functions_that_do_not_fit_are_refused(place, name, error, message):
    with pytest.raises(error, match=message):
        make_augment(f"{place}:{name}", 10, 7)(SAMPLES, torch.arange(10), 0)


def test_a_recipe_names_it_relative_to_itself(place, tmp_path):
    values = recipe(dynamic_exit__early_exit__training={"epochs": 1, "augment": "views.py:noise", "views": 2})
    read = parse_recipe(values, tmp_path)
    assert read.dynamic_exit.early_exit.training.augment == f"{place}:noise"
    assert "augment: ../views.py:noise" in recipe_text(read, tmp_path / "out")


def test_a_misspelt_name_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="augment' must be a known augmentation or file.py:function; .*'affine'"):
        parse_recipe(recipe(dynamic_exit__early_exit__training={"augment": "afine"}), tmp_path)
