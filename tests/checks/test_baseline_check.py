"""A backbone at chance, or with permuted classes, is told of before any work, with the likely cause."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dynamic_exit.checks.baseline_check import check_backbone
from dynamic_exit.checks.pixel_range import explain_range_mismatch
from dynamic_exit.data.split import Split
from dynamic_exit.graph import Classifier, Preprocessing
from dynamic_exit.pipeline.inputs import load_run_inputs
from dynamic_exit.recipe import parse_recipe

SPLITS = ("train", "calibration", "test")
NAMES = tuple("abcdefghijklmnopqrstuvwxyz")


class Says(nn.Module):
    """Answers what its input says."""

    def __init__(self, classes):
        super().__init__()
        self.classes = classes

    def forward(self, x):
        return nn.functional.one_hot(x[:, 0].long(), self.classes).float()


def doubt(answers, labels, classes=None, unweighted=False):
    """What is said of a backbone that gives these answers to samples of these labels."""
    classes = classes or int(max(answers.max(), labels.max())) + 1
    split = Split("calibration", {"x": np.float32(answers)[:, None]}, np.asarray(labels, np.int64))
    names = NAMES[:classes] if classes <= len(NAMES) else [str(index) for index in range(classes)]
    return check_backbone(Classifier(Says(classes)).eval(), split, names, no_weights=unweighted)


def right(count, classes, share=0.95):
    """Labels in turn, and answers of which that share is right; the others are the next class but one."""
    labels = np.arange(count) % classes
    wrong = np.arange(count) // classes % 20 >= round(share * 20)
    return np.where(wrong, (labels + 2) % classes, labels), labels


def test_nothing_is_said_of_a_backbone_that_is_better_than_chance():
    assert doubt(*right(300, 10)) is None
    assert doubt(*right(300, 10, 0.4)) is None
    assert doubt(*right(40, 3, 0.7)) is None


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 12), st.integers(120, 400), st.integers(12, 20))
def test_nothing_is_said_of_any_that_is_right_on_most(classes, count, twentieths):
    assert doubt(*right(count, classes, twentieths / 20)) is None


def ask(order, count=2560, share=0.95):
    answers, labels = right(count, len(order), share)
    return doubt(np.asarray(order)[answers], labels)


def test_two_classes_the_wrong_way_round():
    said = ask([1, 0])
    assert said.startswith("the backbone is right on ")
    assert ", no better than always answering '" in said
    assert "; its classes look permuted: what it calls 'a' is labelled 'b', what it calls 'b' is labelled 'a'; " in said


@pytest.mark.parametrize(
    "order, clauses",
    [
        ([1, 2, 3, 4, 5, 0], ["what it calls 'a' is labelled 'f', what it calls 'b' is labelled 'a'", "and 3 more"]),
        ([5, 4, 3, 2, 1, 0], ["what it calls 'a' is labelled 'f'", "and 3 more"]),
        ([2, 0, 1], ["what it calls 'a' is labelled 'b'", "'b' is labelled 'c'", "'c' is labelled 'a'"]),
    ],
    ids=["turned", "reversed", "three in a circle"],
)
def test_any_permutation_is_named(order, clauses):
    said = ask(order)
    assert "no better than always answering" in said
    for clause in clauses:
        assert clause in said


@pytest.mark.parametrize("step", [1, -1])
def test_classes_that_are_one_off(step):
    """As behind a class of background that labels do not count: too many classes to learn any assignment."""
    answers, labels = right(3000, 600)
    said = doubt(answers + step + 1, labels + 1, classes=603)
    assert "; its classes look permuted: what it calls " in said
    pairs = re.findall(r"'(\d+)' is labelled '(\d+)'", said)
    assert {int(answer) - int(label) for answer, label in pairs} == {step}
    assert said.endswith("; read that way it is right on 100.0%")


def test_two_of_ten_classes_swapped_are_found_though_the_backbone_is_better_than_chance():
    said = ask([1, 0, *range(2, 10)])
    assert "no better" not in said
    assert "its classes look permuted: what it calls 'a' is labelled 'b', what it calls 'b' is labelled 'a'; " in said


def test_classes_that_are_merely_mixed_up_now_and_then_are_not_permuted():
    answers, labels = right(600, 4)
    confused = np.where((labels == 0) & (np.arange(600) % 8 == 0), 1, answers)
    assert doubt(confused, labels) is None


@pytest.mark.parametrize(
    "unweighted, cause",
    [
        (True, "the recipe names no `weights`: unless its function loads them, they are random"),
        (False, "neither the order of its classes nor the range of its inputs explains it; look at weights and labels"),
    ],
    ids=["no weights", "weights"],
)
def test_one_answer_for_all(unweighted, cause):
    assert doubt(np.full(200, 3), np.arange(200) % 10, 10, unweighted) == (
        "the backbone is right on 10.0% of 200 calibration samples, no better than always answering 'a' (10.0%); "
        + cause
    )


def test_answers_by_lot_are_no_permutation():
    for seed in range(20):
        random = np.random.default_rng(seed)
        said = doubt(random.integers(10, size=300), np.arange(300) % 10, 10)
        assert said is None or "permuted" not in said


def test_classes_so_unequal_that_accuracy_tells_nothing():
    labels = (np.arange(240) % 24 == 0).astype(int)  # 10 of 240
    answers = labels.copy()
    answers[labels == 1] = np.arange(10) % 10 < 6  # six of ten found
    answers[1:11] = 1  # ten false alarms
    assert doubt(answers, labels) == (
        "the backbone is right on 94.2% of 240 calibration samples, no better than always answering 'a' (95.8%); its "
        "answers do follow the labels, but classes are so unequal that accuracy tells little"
    )


def test_too_few_samples_tell_nothing():
    assert doubt(np.array([0, 0, 0, 0]), np.array([0, 1, 0, 1])) is None
    assert doubt(np.zeros(30, int), np.array([0] * 26 + [1] * 4), 2) is None


# the range of pixels


class Brightness(nn.Module):
    """Four classes by the brightness of pixels in 0..1, alike for all above and below."""

    def forward(self, x):
        return -(x.float().mean((1, 2, 3))[:, None].clamp(0, 1) - torch.tensor([0.1, 0.35, 0.6, 0.85])).abs()


def pictures(top=1.0, dtype=np.float32):
    """Samples that Brightness knows in 0..1."""
    labels = np.arange(200) % 4
    tones = np.array([0.1, 0.35, 0.6, 0.85])[labels] + np.linspace(-0.1, 0.1, 200)
    pixels = np.ones((200, 3, 2, 2)) * tones[:, None, None, None]
    pixels[:, 0, 0, 0] = np.arange(200) % 2  # black and white somewhere
    return Split("calibration", {"x": (pixels * top).astype(dtype)}, labels.astype(np.int64))


def range_doubt(split, **steps):
    classifier = Classifier(Brightness(), preprocessing=Preprocessing(**steps)).eval()
    misfit = explain_range_mismatch(classifier, split.inputs)
    return misfit, check_backbone(classifier, split, NAMES[:4], misfit)


def test_the_range_that_would_be_right_is_found_by_trying():
    assert range_doubt(pictures()) == (None, None)
    misfit, said = range_doubt(pictures(255, np.uint8))
    assert misfit is None, "nothing in the recipe tells what the model expects"
    assert said == (
        "the backbone is right on 25.5% of 200 calibration samples, no better than always answering 'a' (25.0%); the "
        "range of its pixels looks wrong: with `scale: 0.00392157` in its `preprocessing` it is right on 94.5%"
    )
    misfit, said = range_doubt(pictures(), scale=1 / 255)
    assert misfit == (
        "pixels lie in 0 to 1, scaled by 0.00392157, and the model expects 0 to 1; set `scale: 1` in its "
        "`preprocessing`"
    )
    assert said.endswith(f"; its {misfit}")


def test_a_wrong_range_is_told_though_the_backbone_is_better_than_chance():
    split = pictures(255, np.uint8)
    split.inputs["x"][split.labels == 0] //= 80  # nearly black, which is 'a' in any range; all others look white
    assert range_doubt(split)[1] == (
        "the backbone is right on 50.0% of 200 calibration samples; the range of its pixels looks wrong: with `scale: "
        "0.00392157` in its `preprocessing` it is right on 96.9%"
    )
    # what a recipe says of the range is not doubted where the backbone is better than chance
    assert range_doubt(split, mean=[0.0], std=[1.5])[1] is None


class Amount(Brightness):
    """Goes by the sum of the pixels of images of 2 x 2."""

    def forward(self, x):
        return super().forward(x.float().sum((1, 2, 3), keepdim=True) / 12)


def test_images_of_another_size_than_the_model_was_trained_on():
    classifier = Classifier(Amount(), preprocessing=Preprocessing(size=(4, 4))).eval()
    assert check_backbone(classifier, pictures(), NAMES[:4]).endswith(
        "; the size of its images looks wrong: with `size: [2, 2]` in its `preprocessing` it is right on 94.5%"
    )


def test_statistics_of_colours_are_not_tried_on_grey():
    split = pictures(255)
    grey = Split("calibration", {"x": split.inputs["x"][:, 1:2]}, split.labels)
    assert "with `scale: 0.00392157` in its" in range_doubt(grey)[1]


# largest value, steps, what the pixels are said to lie in, to be expected in, and the scale that mends it
MISFITS = {
    "bytes, statistics for 0..1": (255, {"mean": [0.5], "std": [0.25]}, ("0 to 255", "0 to 1", "0.00392157")),
    "0..1, statistics for bytes": (1, {"mean": [123.7], "std": [58.0]}, ("0 to 1", "0 to 255", "255")),
    "scaled twice": (
        1,
        {"scale": 1 / 255, "mean": [0.5], "std": [0.5]},
        ("0 to 1, scaled by 0.00392157,", "0 to 1", "1"),
    ),
    "a scale before statistics for bytes": (
        255,
        {"scale": 1 / 255, "mean": [123.7], "std": [58.0]},
        ("0 to 255, scaled by 0.00392157,", "0 to 255", "1"),
    ),
    "bytes, scaled": (255, {"scale": 1 / 255, "mean": [0.5], "std": [0.5]}, None),
    "bytes, statistics for bytes": (255, {"mean": [123.7], "std": [58.0]}, None),
    "0..1": (1, {"mean": [0.5], "std": [0.5]}, None),
    "nothing known": (255, {}, None),
}


@pytest.mark.parametrize("top, steps, ranges", MISFITS.values(), ids=MISFITS)
def test_one_sentence_names_both_ranges(top, steps, ranges):
    clause = explain_range_mismatch(
        Classifier(Brightness(), preprocessing=Preprocessing(**steps)), pictures(top).inputs
    )
    said = "pixels lie in {} and the model expects {}; set `scale: {}` in its `preprocessing`"
    assert clause == (said.format(*ranges) if ranges else None)


def test_pixels_that_are_normalized_already():
    inputs = {"x": (pictures().inputs["x"] - 0.5) * 4}
    assert explain_range_mismatch(
        Classifier(Brightness(), preprocessing=Preprocessing(mean=[0.5], std=[0.25])), inputs
    ) == (
        "pixels lie in -2 to 2 and the model expects 0 to 1; give it pixels that are not normalized yet, or leave "
        "`mean` and `std` out"
    )


def test_what_is_no_image_has_no_range():
    classifier = Classifier(Brightness(), preprocessing=Preprocessing(mean=[0.5], std=[0.5]))
    assert explain_range_mismatch(classifier, {"ids": np.full((3, 8), 200)}) is None


def test_a_recipe_tells_it_before_any_work(tmp_path, log_lines):
    (tmp_path / "m.py").write_text(
        "import torch\nfrom torch import nn\n\n\nclass Ones(nn.Module):\n    def forward(self, x):\n"
        "        return x.flatten(1)[:, :3] * 0 + torch.tensor([0.0, 2.0, 0.0])\n\n\ndef make(): return Ones()\n"
    )
    recipe = parse_recipe(
        {
            "model": {"source": "python", "name": "m.py:make"},
            "data": {"source": "python", "path": "m.py:make", "splits": {key: key for key in SPLITS}},
            "dynamic_exit": {"early_exit": {}},
            "export": {"directory": "out"},
        },
        tmp_path,
    )
    values = np.random.default_rng(0).normal(size=(90, 1, 2, 2)).astype(np.float32)
    splits = {key: Split(key, {"": values[start::3]}, np.arange(30) % 3) for start, key in enumerate(SPLITS)}
    load_run_inputs(recipe, splits=splits).log_notes()
    assert log_lines == [
        "note: the backbone is right on 33.3% of 30 calibration samples, no better than always answering '0' (33.3%); "
        "the recipe names no `weights`: unless its function loads them, they are random"
    ]
