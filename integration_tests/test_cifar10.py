"""Real images and third-party weights: the recipe's models, data and variants, and the bars of tiny savers."""

import sys
from pathlib import Path

import fork_server
import numpy as np
import pytest
from outside_data import needs

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "recipes" / "cifar10_resnet56.yaml"
# as published with the weights: multiply-adds in M, and accuracy on dev in percent
PUBLISHED = {
    "resnet8": (12.5, 86.4),
    "resnet20": (40.6, 91.7),
    "resnet32": (68.9, 92.2),
    "resnet8_large": (76.5, 90.7),
    "resnet44": (97.2, 93.1),
    "final": (125.5, 93.3),
}

pytestmark = [needs("cifar10", "CIFAR-10"), pytest.mark.usefixtures("data_environment")]
sys.path.insert(0, str(ROOT / "integration_tests" / "benchmarks"))


@pytest.fixture(scope="module")
def load(data_environment):
    from dynamic_exit.core.user_code import load_function

    return load_function(f"{ROOT / 'recipes' / 'cifar10' / 'data.py'}:load")


@pytest.fixture(scope="module")
def records(data_environment):
    import cifar10

    from dynamic_exit.recipe import read_recipe

    return cifar10.saver_records(read_recipe(RECIPE))


@pytest.fixture(scope="module")
def figures(records):
    import cifar10

    return cifar10.savers(records, draws=10)


@pytest.mark.parametrize(("split", "count"), [("train", 50_000), ("dev", 5_000)])
def test_splits_are_images_of_ten_classes_with_the_channels_first(load, split, count):
    images, labels = load(split)
    assert (images.shape, images.dtype, labels.dtype) == ((count, 3, 32, 32), np.uint8, np.int64)
    assert images.flags.c_contiguous
    assert np.allclose(np.bincount(labels), count / 10, rtol=0.06)


def test_training_images_lie_in_the_order_of_their_labels(load):
    """In every sheet: a model that knows them by heart is right on nearly all."""
    import torch

    from dynamic_exit.recipe import read_recipe
    from dynamic_exit.sources.models.loading import load_model

    images, labels = (array[::200] for array in load("train"))
    with torch.no_grad():
        answers = load_model(read_recipe(RECIPE).model)(torch.from_numpy(images)).argmax(1).numpy()
    assert (answers == labels).mean() >= 0.98


def test_an_unknown_split_is_refused(load):
    with pytest.raises(ValueError, match="split is 'test'; it must be one of train, dev"):
        load("test")


def test_own_models_do_with_the_published_weights_what_was_published(records):
    answers = records.topk_classes[:, :, 0]
    costs = np.append(records.own_cost[:-1], records.baseline_cost)
    for stage, cost, answer in zip(records.stages, costs, answers, strict=True):
        macs, accuracy = PUBLISHED[stage]
        assert cost / 1e6 == pytest.approx(macs, abs=0.05), stage
        assert 100 * (answer == records.labels).mean() == pytest.approx(accuracy, abs=0.06), stage


def test_the_recipe_is_valid():
    done = fork_server.run(fork_server.COMMAND, "validate", RECIPE)
    assert done.returncode == 0, done.stderr
    assert "50000 train, 2500 calibration, 2500 test samples" in done.stdout


@pytest.mark.parametrize("stanza", ["tiny_saver", "early_exit"])
def test_one_pass_of_the_recipe_is_valid_alone(stanza):
    from dynamic_exit.recipe import read_recipe

    alone = read_recipe(RECIPE, {f"dynamic_exit.{stanza}": None}).dynamic_exit
    assert [alone.tiny_saver is None, alone.early_exit is None] == [stanza == "tiny_saver", stanza == "early_exit"]


def test_without_the_variable_a_sentence_says_so_wherever_it_is_named(monkeypatch):
    monkeypatch.delenv("DYNAMIC_EXIT_DATA")
    done = fork_server.run(fork_server.COMMAND, "validate", RECIPE)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == Path(RECIPE).read_text().count("weights: $DYNAMIC_EXIT_DATA")
    assert all("'DYNAMIC_EXIT_DATA', which is not set" in line for line in lines)


@pytest.mark.parametrize(("place", "allowed", "bar"), [(0, 0.0, 2.9), (1, 0.5, 3.6)])
def test_savers_save_what_they_must_at_the_accuracy_allowed(figures, place, allowed, bar):
    cost, change = figures["ours"][place]
    assert 1 / cost >= bar
    assert change >= -allowed - 0.15


def test_savers_are_a_fifth_cheaper_than_the_single_one_of_the_paper(figures):
    assert figures["ours"][1][0] <= 0.8 * figures["single saver"][1][0]


def test_the_search_comes_within_a_hundredth_of_the_best_of_all_chains(figures):
    assert max(figures["apart"]) <= 0.01
