"""A recipe's pruned backbone is kept, and comes back where nothing that it depends on has changed."""

import pytest
import sentences
import tiny
import torch
from log_lines import log_lines
from torch import nn

from dynamic_exit.core.cache import Cache
from dynamic_exit.cost import count_macs
from dynamic_exit.errors import PassError
from dynamic_exit.passes.pruning import save_pruned
from dynamic_exit.pipeline.inputs import load_run_inputs
from dynamic_exit.pipeline.static_passes import apply_static_passes, static_pass_effect
from dynamic_exit.recipe import read_recipe
from dynamic_exit.report.tables import static_pass_notes

PRUNING = {"ratio": 0.5, "fine_tune": {"epochs": 2}}
OWN_VIEW = "def noisy(sample, generator):\n    return sample {sign} 0.1\n"


@pytest.fixture
def world(tmp_path):
    """Makes a backbone by a changed recipe, and says whether it was trained; the cache stays."""
    (tmp_path / "own.py").write_text(OWN_VIEW.format(sign="+"))
    cache = Cache(tmp_path / "cache")

    def make(pruning=PRUNING, **changes):
        recipe = read_recipe(tiny.build(tmp_path, quantization=None, pruning=pruning, **changes))
        with log_lines() as said:
            made = apply_static_passes(load_run_inputs(recipe), cache).backbone
        return made, any(line.startswith("epoch") for line in said)

    return make


def test_a_second_run_does_not_train_again(world):
    first, trained = world()
    again, repeated = world()
    assert (trained, repeated) == (True, False)
    images = torch.from_numpy(tiny.samples("test")[0])
    assert torch.equal(first(images), again(images))
    assert [m.out_channels for m in again.modules() if isinstance(m, nn.Conv2d)] == [1, 2, 4, 4]
    assert not again.training


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 4},
        {"pruning": {**PRUNING, "ratio": 0.25}},
        {"pruning": {**PRUNING, "fine_tune": {"epochs": 1}}},
        {"data__splits__train": "calibration", "data__splits__calibration": "train"},
    ],
    ids=["seed", "ratio", "epochs", "samples"],
)
def test_what_it_depends_on_makes_it_anew(world, changes):
    world()
    assert world(**changes)[1]


def test_own_augmentation_counts_by_its_code(world, tmp_path):
    pruning = {**PRUNING, "fine_tune": {"epochs": 1, "augment": "own.py:noisy"}}
    assert [world(pruning)[1] for _ in range(2)] == [True, False]
    (tmp_path / "own.py").write_text(OWN_VIEW.format(sign="-"))
    assert world(pruning)[1]


def test_what_does_not_count_finds_it_again(world):
    world()
    assert not world(dynamic_exit__early_exit={"count": 1}, export__directory="elsewhere")[1]


def test_what_pruning_cost_is_told_against_the_backbone_that_was_given(tmp_path):
    given = load_run_inputs(read_recipe(tiny.build(tmp_path, quantization=None, pruning=PRUNING)))
    made = apply_static_passes(given)
    images, labels = (torch.from_numpy(array) for array in tiny.samples("test"))
    right = [float((each.backbone(images).argmax(1) == labels).float().mean()) for each in (given, made)]
    macs = [count_macs(each.backbone, (images[:2],)) for each in (given, made)]
    found = static_pass_effect(made)
    assert found.passes == ["pruning"]
    assert [each.accuracy for each in (found.given, found.made)] == pytest.approx(right)
    assert [each.multiply_adds for each in (found.given, found.made)] == macs and macs[1] < macs[0]
    errors = [(share * (1 - share) / len(labels)) ** 0.5 for share in right]
    before, after = (f"{100 * share:.2f} ± {100 * error:.2f} %" for share, error in zip(right, errors, strict=True))
    assert static_pass_notes(found) == [
        f"pruning: {macs[1] / macs[0]:.1%} of the multiply-adds remain, {after} of the test samples are right, "
        f"{before} before (both in float); other figures are against the backbone after that."
    ]
    assert static_pass_effect(given) is None and static_pass_notes(None) == []


def test_a_saved_folder_serves_as_weights(world, tmp_path):
    made, _ = world()
    save_pruned(made.model, tiny.backbone(), tmp_path / "kept")
    recipe = read_recipe(tiny.build(tmp_path, model__weights="kept"))
    images = torch.from_numpy(tiny.samples("test")[0])
    assert torch.equal(load_run_inputs(recipe).backbone(images), made(images))


def test_a_model_of_two_inputs(tmp_path, log_lines):
    stanza = {"target_cost": 0.7, "fine_tune": {"epochs": 1}}
    run_inputs = load_run_inputs(read_recipe(sentences.build(tmp_path, quantization=None, pruning=stanza)))
    made = apply_static_passes(run_inputs).backbone
    example = run_inputs.backbone.select(run_inputs.example)
    assert len(example) > 1
    assert 0.5 < count_macs(made, example) / count_macs(run_inputs.backbone, example) <= 0.7
    assert made(*example).shape == (2, run_inputs.classes)
    assert any(line.startswith("epoch 1 of 1") for line in log_lines)


def test_a_refusal_names_the_goal(world):
    with pytest.raises(PassError, match="^`target_cost` 0.01 is out of reach: without all that may go 0.038 "):
        world({"target_cost": 0.01})
