"""Labels are all names of classes or all their numbers, in whatever type they come."""

import pytest

from dynamic_exit.errors import DataError
from dynamic_exit.sources.class_names import ClassNames, as_integer, encode_labels

LABELS = {
    "numbers though one is a name": (["0", "1", "1"], ["1", "2"], [0, 1, 1]),
    "names that are numbers": (["1", "2", "3"], ["1", "2", "3"], [0, 1, 2]),
    "names": (["no", "yes", "no"], ["yes", "no"], [1, 0, 1]),
    "whole floats": (["1.0", "0.0"], ["a", "b"], [1, 0]),
    "floats of JSON": ([1.0, 0.0], None, [1, 0]),
    "booleans of JSON": ([True, False], ["no", "yes"], [1, 0]),
    "booleans that are names": ([True, False], ["True", "False"], [0, 1]),
    "signs and blanks around numbers": ([" 1", "+0"], None, [1, 0]),
    "names nobody told": (["pos", "neg", "pos"], None, [1, 0, 1]),
    "blanks around names": (["pos ", " neg", "pos"], None, [1, 0, 1]),
    "blanks that a name has": ([" a", "a"], ["a", " a"], [1, 0]),
    "blanks around known names": (["b ", "a"], ["a", "b"], [1, 0]),
}


@pytest.mark.parametrize("labels, known, numbers", LABELS.values(), ids=LABELS)
def test_labels_are_all_names_or_all_numbers(labels, known, numbers):
    known = known and ClassNames(tuple(known))
    assert encode_labels(labels, known, lambda i: ("it", f" in row {i}"))[0].tolist() == numbers


NOBODY = "which is no class; name the classes in `data.classes`"
MIXED = {
    "a number among names": (
        ["yes", "no", "1"],
        ["no", "yes"],
        "it has the label '1' in row 2, a number, and the label 'yes' elsewhere, which is the name of a class; give "
        "names alone or numbers alone",
    ),
    "a misspelt name": (
        ["yes", "noo"],
        ["no", "yes"],
        "it has the label 'noo' in row 1, which is no class; did you mean 'no'?",
    ),
    "a name of two classes": (
        ["b", "a"],
        ["a", "b", "a"],
        "label 'a' is more than one class of `data.classes`; give every class a name of its own in `data.classes`",
    ),
    "a fraction": ([0.0, 0.5], None, f"it has the label '0.5' in row 1, {NOBODY}"),
    "null": (["a", None], None, f"it has the label 'None' in row 1, {NOBODY}"),
    "nothing": (["a", " ", "b"], None, f"it has the label '' in row 1, {NOBODY}"),
    "a name among numbers": (["0", "one"], None, f"it has the label 'one' in row 1, {NOBODY}"),
}


@pytest.mark.parametrize("labels, known, sentence", MIXED.values(), ids=MIXED)
def test_names_and_numbers_are_not_mixed(labels, known, sentence):
    with pytest.raises(DataError) as refused:
        encode_labels(labels, known and ClassNames(tuple(known)), lambda i: ("it", f" in row {i}"))
    assert str(refused.value) == sentence


def test_labels_that_could_be_both_are_names_and_that_is_said():
    said = []
    known = ClassNames(("1", "2", "3"))
    assert encode_labels(["2", "1"], known, lambda i: ("it", ""), said.append)[0].tolist() == [1, 0]
    assert said == ["labels such as 2 could be names or numbers of classes; they are read as names"]


@pytest.mark.parametrize("label", [float("nan"), float("inf"), "1e3", "", "x", None, 2**40, "0.5"])
def test_what_is_no_whole_number(label):
    assert as_integer(label) is None
