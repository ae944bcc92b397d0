"""Text files, labels and tokenizers that would be read wrongly without a word."""

import gzip
import json

import pytest
import sentences

from dynamic_exit.errors import DataError
from dynamic_exit.passes import ModelSource
from dynamic_exit.recipe.class_names import Known
from dynamic_exit.recipe.labels import labels_of
from dynamic_exit.recipe.schema import Columns, DataSource
from dynamic_exit.recipe.text import TextReader
from dynamic_exit.recipe.text_files import read_text

NUMBERED = {"text": 0, "label": 1}


def write(path, text, encoding="utf-8"):
    with (gzip.open if path.suffix == ".gz" else open)(path, "wb") as file:
        file.write(text.encode(encoding))
    return path


# rows


@pytest.mark.parametrize(
    ("name", "text", "columns", "said"),
    [
        ("a.csv", "label,text\n1,fine\n1,I liked it, really\n", {},
         "has 3 columns in line 3 and 2 in line 1; a text with a comma in it needs quotes"),
        ("a.csv", "label,text\n1,I liked it,\n", {},
         "has 3 columns in line 2 and 2 in line 1; a text with a comma in it needs quotes"),
        ("a.csv", 'label,text\n1,"two\nlines, and\nmore"\n0,a\n0,b,c\n', {},
         "has 3 columns in line 6 and 2 in line 1; a text with a comma in it needs quotes"),
        ("a.csv", "label,text,source\n1,fine\n", {},
         "has 2 columns in line 2 and 3 in line 1; a text with a comma in it needs quotes"),
        ("a.csv", "\n\nlabel,text\n\n1,a,b\n", {},
         "has 3 columns in line 5 and 2 in line 3; a text with a comma in it needs quotes"),
        ("a.csv.gz", "fine,1\nI liked it, really,1\n", NUMBERED,
         "has 3 columns in line 2 and 2 in line 1; a text with a comma in it needs quotes"),
        ("a.tsv", "text\tlabel\nI liked\tit\t1\n", {},
         "has 3 columns in line 2 and 2 in line 1; texts must hold no tabs"),
        ("a.tsv", 'text\tlabel\n"I liked\nit"\t1\n', {},
         "has 1 columns in line 2 and 2 in line 1; texts must hold no tabs"),
        ("a.csv", "text,label,text\na,1,b\n", {}, "has the column 'text' twice; keep one, or rename the other"),
        ("a.tsv", "text\tlabel\tlabel\na\t1\t0\n", {}, "has the column 'label' twice; keep one, or rename the other"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "a", "text": "b", "label": 1}\n', {},
         "has the key 'text' twice in line 2; keep one, or rename the other"),
        ("a.jsonl", '{"text": "a", "label": 1}\n\n{"text": null, "label": 1}\n', {},
         "has null as 'text' in line 3, which is no text; leave the line out"),
        ("a.jsonl.gz", '{"text": "a", "b": null, "label": 1}\n', {"pair": "b"},
         "has null as 'b' in line 1, which is no text; leave the line out"),
        ("a.jsonl", '{"text": 2020, "label": 1}\n', {},
         "has 2020 as 'text' in line 1, which is no text; write it as a string"),
        ("a.jsonl", '{"text": ["two", "words"], "label": 1}\n', {},
         "has [\"two\", \"words\"] as 'text' in line 1, which is no text; write it as a string"),
    ],
    ids=["comma", "comma at the end", "behind lines in quotes", "short row", "blank lines before the header",
         "no header, packed", "tab", "quotes mean nothing between tabs", "two texts", "two labels", "a key twice",
         "null", "null in a pair", "number as text", "list as text"],
)  # fmt: skip
def test_rows_that_would_be_read_otherwise_are_refused(tmp_path, name, text, columns, said):
    with pytest.raises(DataError) as refused:
        read_text(write(tmp_path / name, text), Columns(**columns))
    assert str(refused.value) == f"text file '{tmp_path / name}' {said}"


@pytest.mark.parametrize(
    ("name", "text", "columns"),
    [
        ("a.csv", "text,label\na,1\nb,0\n", {}),
        ("a.tsv", "label\ttext\n1\ta\n0\tb\n", {}),
        ("a.csv", "a,1\nb,0\n", NUMBERED),
        ("a.tsv.gz", "a\t1\nb\t0\n", NUMBERED),
        ("a.jsonl", '{"text": "a", "label": "1"}\n{"text": "b", "label": "0"}\n', {}),
        ("a.csv", "text,label,,\r\na,1,,\r\n\r\nb,0,,\r\n   \r\n", {}),
    ],
    ids=["csv", "tsv", "csv without a header", "tsv packed", "jsonl", "columns without a name, blank lines"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_mark_of_byte_order_is_no_text(tmp_path, name, text, columns, encoding):
    rows = read_text(write(tmp_path / name, text, encoding), Columns(**columns))
    assert (rows.texts, rows.labels) == ((["a", "b"],), ["1", "0"])


def test_lines_in_quotes_are_counted(tmp_path):
    rows = read_text(write(tmp_path / "a.csv", 'text,label\n"a\r\nb\n",1\n\n"c\nd",0\ne,1\n'), Columns())
    assert rows.texts == (["a\r\nb\n", "c\nd", "e"],)
    assert rows.lines == [2, 6, 8]


@pytest.mark.parametrize(
    ("name", "text"),
    [("l.txt", "bad\ngood\n"), ("l.json", '["bad", "good"]'), ("l.json", '{"0": "bad", "1": "good"}')],
)
def test_a_mark_of_byte_order_is_no_part_of_a_classs_name(tmp_path, name, text):
    path = write(tmp_path / name, text, "utf-8-sig")
    assert labels_of(ModelSource(source="python", name="m.py:f", labels=str(path)), None) == ["bad", "good"]


# labels


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    sentences.tokenizer().save_pretrained(folder)
    return folder


def labels(folder, tmp_path, names, **files):
    """Labels of splits, from JSON values in one file each."""
    for name, values in files.items():
        lines = [json.dumps({"text": f"the film was {i}", "label": label}) for i, label in enumerate(values)]
        write(tmp_path / f"{name}.jsonl", "\n".join(lines))
    source = DataSource(
        source="text", path=str(tmp_path), splits={"train": "train", "calibration": "train", "test": "train"},
        text={"tokenizer": str(folder)},
    )  # fmt: skip
    reader = TextReader(source, list(files), None, Known(tuple(names), True) if names else None)
    return [reader(name)[1].tolist() for name in files]


@pytest.mark.parametrize(
    ("names", "train", "test", "expected"),
    [
        (["1", "2"], ["0", "1"], ["0", "1"], [[0, 1], [0, 1]]),
        (["1", "2"], ["1", "2"], ["1", "1"], [[0, 1], [0, 0]]),
        (["1", "2"], ["0", "1"], ["1", "1"], [[0, 1], [1, 1]]),
        (["1", "2"], [1, 2], [1.0, 2.0], [[0, 1], [0, 1]]),
        (["1", "2"], ["1.0", "2.0"], ["1.0"], [[0, 1], [0]]),
        (["no", "yes"], [True, False], [1, 0.0], [[1, 0], [1, 0]]),
        (["true", "false"], [True, False], ["false"], [[0, 1], [1]]),
        (["False", "True"], [True, False], ["True"], [[1, 0], [1]]),
        (None, ["1", "0"], [True, 1.0], [[1, 0], [1, 1]]),
        (["2", "1", "0"], ["0", "2"], ["1"], [[2, 0], [1]]),
        (["bad", "good"], ["good", "bad"], [1, 0], [[1, 0], [1, 0]]),
    ],
    ids=["numbers beside names that are numbers", "such names", "one reading for all splits", "numbers that are names",
         "whole floats of a table", "truth values", "truth values that are names", "truth values as Python spells them",
         "no names", "names first", "each file in its own way"],
)  # fmt: skip
def test_labels_are_names_or_numbers_and_never_both(folder, tmp_path, names, train, test, expected):
    assert labels(folder, tmp_path, names, train=train, test=test) == expected


@pytest.mark.parametrize(
    ("names", "values", "said"),
    [
        (["bad", "good"], ["good", "0"],
         "has the label '0' in line 2, a number, and the label 'good' elsewhere, which is the name of a class; give "
         "names alone or numbers alone"),
        (["bad", "good"], ["good", 2.5],
         "has the label 2.5 in line 2: regression is not supported; give each text the number or the name of a class"),
        (None, ["0.25", "0.75"],
         "has the label 0.25 in line 1: regression is not supported; give each text the number or the name of a class"),
        (["bad", "good"], ["good", [0, 1]],
         "has the labels [0, 1] in line 2: multi-label classification is not supported; give each text one class"),
        (["bad", "good"], [1, None], "has no label in line 2; leave the line out"),
        (["bad", "good"], ["", "good"], "has no label in line 1; leave the line out"),
        (None, [1, "1_0"], "has the label '1_0' in line 2, which is no class; name the classes in `data.classes`"),
    ],
    ids=["names and numbers", "fraction", "fractions as words", "several", "null", "nothing", "Python's digits"],
)  # fmt: skip
def test_labels_that_are_no_class_are_refused(folder, tmp_path, names, values, said):
    with pytest.raises(DataError) as refused:
        labels(folder, tmp_path, names, train=values)
    assert str(refused.value) == f"text file '{tmp_path / 'train.jsonl'}' {said}"
