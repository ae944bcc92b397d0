"""Names of classes that differ in spelling alone: one class, or two and that is said."""

import unicodedata

import numpy as np
import pytest
from PIL import Image

from dynamic_exit.data.loading import load_splits
from dynamic_exit.errors import DataError
from dynamic_exit.passes import ModelSource
from dynamic_exit.recipe import DataSource
from dynamic_exit.sources.class_names import ClassNames, encode_labels, merge_class_lists
from dynamic_exit.sources.labels import find_class_order
from dynamic_exit.sources.spelling import unify_names

CAFE, CAFE_APART = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
SPLITS = ("train", "calibration", "test")
FORMS = f"label '{CAFE}' is written in several forms of Unicode, which count as one class"
CAPITALS = "label 'Cat' and 'cat' differ in capitals alone and count as two classes"
TAKEN = "label 'Cat' is taken for the class 'cat', which differs in capitals alone"

# names in the data, known names, the class of each, notes
TABLE = {
    "two forms": ([CAFE, CAFE_APART, "bar"], [], [CAFE, CAFE, "bar"], [FORMS]),
    "apart alone": ([CAFE_APART], [], [CAFE], []),
    "apart, known composed": ([CAFE_APART], [CAFE], [CAFE], []),
    "composed, known apart": ([CAFE], [CAFE_APART], [CAFE_APART], []),
    "two forms, one known": ([CAFE, CAFE_APART], [CAFE_APART], [CAFE_APART] * 2, [FORMS.replace(CAFE, CAFE_APART)]),
    "two capitals": (["Cat", "cat", "dog"], [], ["Cat", "cat", "dog"], [CAPITALS]),
    "one capital, known small": (["Cat", "dog"], ["dog", "cat"], ["cat", "dog"], [TAKEN]),
    "all in capitals": (["CAT", "DOG"], ["dog", "cat"], ["cat", "dog"],
                        [f"{TAKEN.replace('Cat', 'CAT')}, and so are 1 more"]),
    "both, one known": (["Cat", "cat"], ["cat", "dog"], ["Cat", "cat"], [CAPITALS.replace("'Cat' and 'cat'", "")]),
    "both known": (["Cat", "cat"], ["cat", "Cat"], ["Cat", "cat"], []),
    "known twice but for capitals": (["CAT"], ["cat", "Cat"], ["CAT"], []),
    "blanks are no spelling": (["a b", "a  b"], [], ["a b", "a  b"], []),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLE)
def test_a_name_stands_for_one_class(case):
    names, known, classes, notes = TABLE[case]
    said = []
    assert unify_names(names, known, "label", said.append) == dict(zip(names, classes, strict=True))
    assert said == ([] if case == "both, one known" else notes)


def test_labels_of_all_kinds_meet(tmp_path):
    """Lists of labels, lists of classes, and folders."""
    labels, names = encode_labels([CAFE, "bar", CAFE_APART], None, lambda i: ("", ""))
    assert (labels.tolist(), names) == ([1, 0, 1], ["bar", CAFE])
    lists = {"train": ["bar", CAFE], "test": [CAFE_APART, "bar"]}
    merged, names = merge_class_lists(dict.fromkeys(lists, np.arange(2)), lists, lambda: None, lambda note: None)
    assert ({key: value.tolist() for key, value in merged.items()}, names) == (
        {"train": [0, 1], "test": [1, 0]},
        ["bar", CAFE],
    )
    tone = 0
    for split, classes in zip(SPLITS, ([CAFE, "bar"], [CAFE_APART, "bar"], [CAFE_APART, CAFE, "bar"]), strict=True):
        for name in classes:
            tone += 1
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (2, 2), (tone, 0, 0)).save(tmp_path / split / name / "0.png")
    values = {"source": "imagefolder", "path": str(tmp_path), "splits": {each: each for each in SPLITS}}
    source, said = DataSource.model_validate(values, context={"base": tmp_path}), []
    splits = load_splits(source, 0, None, note=said.append)
    assert [splits[each].labels.tolist() for each in SPLITS] == [[0, 1], [0, 1], [0, 1, 1]]
    assert splits["test"].class_names == ("bar", CAFE)
    assert said == [FORMS.replace("label", "class folder")]


def test_capitals_do_not_hide_the_backbones_order(tmp_path):
    for tone, (split, name) in enumerate((split, name) for split in SPLITS for name in ("Cat", "Dog")):
        (tmp_path / split / name).mkdir(parents=True)
        Image.new("RGB", (2, 2), (tone, 0, 0)).save(tmp_path / split / name / "0.png")
    values = {"source": "imagefolder", "path": str(tmp_path), "splits": {each: each for each in SPLITS}}
    source = DataSource.model_validate(values, context={"base": tmp_path})
    splits = load_splits(source, 0, ModelSource(source="python", name="m.py:make", labels=["dog", "cat"]))
    assert (splits["test"].class_names, sorted(splits["test"].labels)) == (("dog", "cat"), [0, 1])
    reds = next(iter(splits["test"].inputs.values()))[:, 0, 0, 0]
    assert reds[splits["test"].labels == 1].tolist() == [4]


def test_a_label_that_two_classes_could_be_is_refused():
    with pytest.raises(DataError, match="^x has the label 'CAT'"):
        encode_labels(["CAT"], ClassNames(("cat", "Cat")), lambda i: ("x", ""))


def test_candidates_may_spell_classes_otherwise():
    assert find_class_order("s", 2, [CAFE_APART, "bar"], ["bar", CAFE]) == (1, 0)
