"""Text files, labels and tokenizers that would be read wrongly without a word."""

import csv
import gzip
import io
import json
import zipfile

import numpy as np
import pytest
import sentences
import tokenizers
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from dynamic_exit.artifact.folder import copy_files, read_config
from dynamic_exit.artifact.inputs import check_inputs
from dynamic_exit.data.text_files import read_text
from dynamic_exit.data.text_source import TextReader
from dynamic_exit.errors import DataError, ExportError
from dynamic_exit.graph import Classifier, find_max_tokens
from dynamic_exit.modeling import DynamicExitModelConfig
from dynamic_exit.passes import ModelSource
from dynamic_exit.recipe import Columns, DataSource
from dynamic_exit.sources.class_names import ClassNames
from dynamic_exit.sources.labels import find_model_labels
from dynamic_exit.sources.tokenizer import save_tokenizer
from dynamic_exit.start.found.columns import find_columns

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
        ("a.jsonl", '{"text": "a", "label": 1}\n\n{"text": "a", label: 1}\n', {},
         "cannot be read: Expecting property name enclosed in double quotes in line 3, column 15; repair it"),
        ("a.jsonl", '{"text": 2020, "label": 1}\n', {},
         "has 2020 as 'text' in line 1, which is no text; write it as a string"),
        ("a.jsonl", '{"text": ["two", "words"], "label": 1}\n', {},
         "has [\"two\", \"words\"] as 'text' in line 1, which is no text; write it as a string"),
        ("a.csv", "text;label\nI liked it, really;1\n", {},
         "has ';' between its columns in line 1, and a .csv file has commas; save it with commas"),
        ("a.csv", "\ntext\tlabel\nfine\t1\n", {},
         "has tabs between its columns in line 2, and a .csv file has commas; save it with commas"),
        ("a.tsv", "fine,1\nbad,0\n", NUMBERED,
         "has ',' between its columns in line 1, and a .tsv file has tabs; save it with tabs"),
        ("a.csv", 'text,label\nfine,1\n"I liked it,1\nfine,1\n', {},
         "cannot be read: unexpected end of data in the row that begins in line 3; repair it"),
        ("a.csv", 'text,label\n"two\nlines",1\n"I" liked it,1\n', {},
         "cannot be read: ',' expected after '\"' in the row that begins in line 4; repair it"),
        ("a.csv", 'text,label\n"I liked it,1\n' + "fine,1\n" * 30_000, {},
         "cannot be read: unexpected end of data in the row that begins in line 2; repair it"),
        ("a.jsonl", '{"text": "a \\\\ud800 b", "label": 1}\n'.replace("\\\\", "\\"), {},
         "has half of a character in line 1; repair it"),
        ("a.jsonl", '{"text": "a", "label": ' + "[" * 100_000 + "}\n", {},
         "cannot be read: lists in line 1 are too deep; repair it"),
        ("a.jsonl", '\n{"text": "a", "label": 1' + "0" * 5000 + "}\n", {},
         "cannot be read: a number in line 2 has too many digits; repair it"),
    ],
    ids=["comma", "comma at the end", "behind lines in quotes", "short row", "blank lines before the header",
         "no header, packed", "tab", "quotes mean nothing between tabs", "two texts", "two labels", "a key twice",
         "null", "null in a pair", "no JSON", "number as text", "list as text", "semicolons", "tabs in csv",
         "commas in tsv", "open quote", "quote within", "open quote before a long file", "half a character",
         "deep lists", "digits"],
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


def test_another_encoding_is_named(tmp_path):
    with pytest.raises(DataError, match=r"a.csv' cannot be read: 'utf-8' codec can't decode .*; save it as UTF-8$"):
        read_text(write(tmp_path / "a.csv", "text,label\ncafé,1\n", "latin-1"), Columns())


def archive(text):
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as parts:
            parts.writestr("xl/workbook.xml", text)
        return file.getvalue()


FOREIGN = {
    "Excel": (archive, "it is a ZIP archive, as Excel workbooks are; save it as CSV in UTF-8"),
    "old Excel": (
        lambda _: bytes.fromhex("d0cf11e0a1b11ae1"),
        "it is a workbook of an old Excel; save it as CSV in UTF-8",
    ),
    "Parquet": (
        lambda text: b"PAR1" + text.encode() + b"PAR1",
        "it is a Parquet file; read it with `source: datasets`, or save it as CSV",
    ),
    "UTF-16": (lambda text: text.encode("utf-16"), "it is in UTF-16; save it as UTF-8"),
    "gzip": (lambda text: gzip.compress(text.encode()), "it is packed by gzip; end its name in .gz"),
    "Git LFS": (
        lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "it is a pointer of Git LFS, not the file itself; run `git lfs pull`",
    ),
}


@pytest.mark.parametrize(("content", "said"), FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize(
    "read", [lambda path: read_text(path, Columns()), lambda path: find_columns(path, None, None, None)]
)
def test_what_only_ends_like_a_text_file_is_told(tmp_path, content, said, read):
    (tmp_path / "a.csv").write_bytes(content("text,label\nfilm,1\n"))
    with pytest.raises(DataError) as refused:
        read(tmp_path / "a.csv")
    assert str(refused.value) == f"text file '{tmp_path / 'a.csv'}' cannot be read: {said}"


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "A.CSV", "a.csv.gz"])
def test_long_fields_are_read(tmp_path, name):
    """And the limit of Python's reader, which is that of the whole process, stays."""
    limit, long = csv.field_size_limit(), "word " * 40_000
    sign = "\t" if "tsv" in name else ","
    rows = read_text(write(tmp_path / name, f"text{sign}label\n{long}{sign}1\n"), Columns())
    assert (rows.texts, csv.field_size_limit()) == (([long],), limit)


def test_lines_in_quotes_are_counted(tmp_path):
    rows = read_text(write(tmp_path / "a.csv", 'text,label\n"a\r\nb\n",1\n\n"c\nd",0\ne,1\n'), Columns())
    assert rows.texts == (["a\r\nb\n", "c\nd", "e"],)
    assert rows.lines == [2, 6, 8]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text('ab ,"\n\t;'), min_size=1), packed=st.booleans())
def test_what_csv_writes_is_read_as_it_was(tmp_path, texts, packed):
    written, lines = io.StringIO(), []
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(["text", "label"])
    for text in texts:
        lines.append(written.getvalue().count("\n") + 1)
        writer.writerow([text, 1])
    rows = read_text(write(tmp_path / f"a.csv{'.gz' * packed}", written.getvalue()), Columns())
    assert (rows.texts, rows.lines) == ((texts,), lines)


@pytest.mark.parametrize(
    ("name", "text"),
    [("l.txt", "bad\ngood\n"), ("l.json", '["bad", "good"]'), ("l.json", '{"0": "bad", "1": "good"}')],
)
def test_a_mark_of_byte_order_is_no_part_of_a_classs_name(tmp_path, name, text):
    path = write(tmp_path / name, text, "utf-8-sig")
    assert find_model_labels(ModelSource(source="python", name="m.py:f", labels=str(path)), None) == ["bad", "good"]


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
    reader = TextReader(source, list(files), None, ClassNames(tuple(names), True) if names else None)
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
        (None, [1, 2**40],
         "has the label '1099511627776' in line 2, which is no class; name the classes in `data.classes`"),
        (None, [1, "1_0"], "has the label '1_0' in line 2, which is no class; name the classes in `data.classes`"),
    ],
    ids=["names and numbers", "fraction", "fractions as words", "several", "null", "nothing", "too large",
         "Python's digits"],
)  # fmt: skip
def test_labels_that_are_no_class_are_refused(folder, tmp_path, names, values, said):
    with pytest.raises(DataError) as refused:
        labels(folder, tmp_path, names, train=values)
    assert str(refused.value) == f"text file '{tmp_path / 'train.jsonl'}' {said}"


def test_blanks_around_labels_are_no_part_of_them(folder, tmp_path):
    assert labels(folder, tmp_path, None, train=["good ", " bad"], test=["bad", "good"]) == [[1, 0], [0, 1]]
    assert labels(folder, tmp_path, ["good", "bad"], train=["good ", " bad"]) == [[0, 1]]
    assert labels(folder, tmp_path, [" good", "good"], train=[" good", "good"]) == [[0, 1]], "names as they are given"


ROWS = [("the film", 1), ("", 0), ("was", None), ("  ", 1), (None, 0), ("film", float("nan")), ("the was", 0)]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_rows_without_a_text_or_a_label_are_left_out_on_request(folder, tmp_path, kind):
    lines = [json.dumps({"text": text, "label": label}) for text, label in ROWS]
    if kind == "csv":
        lines = [
            "text,label",
            *(f"{text or ''},{'' if label in (None, ROWS[5][1]) else label}" for text, label in ROWS),
        ]
    path, notes = write(tmp_path / f"a.{kind}", "\n".join(lines) + "\n"), []
    splits = {"train": "a", "calibration": "a", "test": "a"}
    source = DataSource(
        source="text", path=str(path), splits=splits, text={"tokenizer": str(folder), "missing": "drop"}
    )
    inputs, numbers = TextReader(source, ["a"], None, note=notes.append)("a")
    assert (len(inputs["input_ids"]), numbers.tolist()) == (2, [1, 0])
    assert notes == [f"5 of 7 rows of text file '{path}' hold no text or no label and are left out"]


def test_empty_texts_are_counted(folder, tmp_path):
    path, notes = write(tmp_path / "a.csv", 'text,label\nthe,1\n"",0\n  ,1\n'), []
    splits = {"train": "a", "calibration": "a", "test": "a"}
    source = DataSource(source="text", path=str(path), splits=splits, text={"tokenizer": str(folder)})
    TextReader(source, ["a"], None, note=notes.append)
    assert notes == [
        f"2 of 3 texts of text file '{path}' are empty, first in line 3; `data.text.missing: drop` leaves them out"
    ]


# tokenizers


def phobert(folder, **more):
    """Byte pairs in files of their own names, in plain Python."""
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("".join(f"{word} 9\n" for word in ["f", "ilm", "th", "e", "a@@", "film", "the"]))
    (folder / "bpe.codes").write_text("t h 9\nth e</w> 8\nf i 7\nfi l 6\nfil m</w> 5\n")
    return transformers.PhobertTokenizer(str(folder / "vocab.txt"), str(folder / "bpe.codes"), **more)


def byte_pairs(folder, **more):
    words = {word: index for index, word in enumerate(["<pad>", "<unk>", "t", "h", "e", "Ġ", "th", "the"])}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(words, [("t", "h"), ("th", "e")], unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", **more)


def word_pieces(folder, **more):
    words = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "film", "##s"])}
    return transformers.BertTokenizer(vocab=words, **more)


def talking(folder, **more):
    """With templates of chats, which go into files of their own."""
    tokenizer = byte_pairs(folder, **more)
    tokenizer.chat_template = {"default": "{{ messages }}", "tools": "{{ tools }}"}
    return tokenizer


TOKENIZERS = [phobert, byte_pairs, word_pieces, talking]
TEXTS = ["the film", "the the the film the film the the film"]


def write_tokenizer(folder, make, limit, max_tokens, **more):
    """A tokenizer as a run on text writes it."""
    make(folder / "files", **more).save_pretrained(folder / "given")
    splits = {"train": "train", "calibration": "train", "test": "train"}
    text = {"tokenizer": str(folder / "given"), "max_length": limit}
    (folder / "out").mkdir()
    source = DataSource(source="text", path=str(folder), splits=splits, text=text)
    return save_tokenizer(folder / "out", source, None, max_tokens)


@pytest.mark.parametrize("make", TOKENIZERS)
@pytest.mark.parametrize(
    ("limit", "said", "max_tokens", "expected"),
    [(5, 512, 40, 5), (None, 7, 40, 7), (None, None, 6, 6), (60, 512, 6, 6), (5, None, None, 5)],
    ids=["recipe", "tokenizer", "model", "shortest", "recipe alone"],
)
def test_the_written_tokenizer_cuts_where_the_recipe_did(tmp_path, make, limit, said, max_tokens, expected):
    write_tokenizer(tmp_path, make, limit, max_tokens, **({"model_max_length": said} if said else {}))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    given = transformers.AutoTokenizer.from_pretrained(tmp_path / "given")
    assert tokenizer.model_max_length == expected
    wanted = given(TEXTS, truncation=True, max_length=expected)
    assert tokenizer(TEXTS, truncation=True)["input_ids"] == wanted["input_ids"]
    assert tokenizer(TEXTS)["input_ids"] == given(TEXTS)["input_ids"], "not asked to, it cuts nothing"
    if tokenizer.is_fast:
        alone = tokenizers.Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
        assert [each.ids for each in alone.encode_batch(TEXTS)] == wanted["input_ids"]


@pytest.mark.parametrize(
    ("make", "special"),
    [
        (phobert, {"bpe.codes", "vocab.txt"}),
        (talking, {"chat_template.jinja", "additional_chat_templates/tools.jinja"}),
    ],
)
def test_every_file_of_a_tokenizer_is_listed_and_copied(tmp_path, make, special):
    names = write_tokenizer(tmp_path, make, 5, None)
    out = tmp_path / "out"
    assert set(names) == {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} > special
    DynamicExitModelConfig(tokenizer_files=names).save_pretrained(out)
    copy_files(out, tmp_path / "copy", read_config(out).tokenizer_files)
    for name in names:
        assert (tmp_path / "copy" / name).read_bytes() == (out / name).read_bytes()
    copied = transformers.AutoTokenizer.from_pretrained(tmp_path / "copy")
    assert copied(TEXTS)["input_ids"] == transformers.AutoTokenizer.from_pretrained(out)(TEXTS)["input_ids"]


@pytest.mark.parametrize("name", ["/etc/hosts", "../secret", "a/../../secret"])
def test_a_file_outside_of_its_folder_is_not_copied(tmp_path, name):
    (tmp_path / "secret").write_text("")
    with pytest.raises(ExportError, match=f"^'{tmp_path}/in/config.json' names the file '{name}', which lies outside"):
        copy_files(tmp_path / "in", tmp_path / "out", [name])


def test_a_text_without_tokens_is_refused(tmp_path):
    byte_pairs(tmp_path).save_pretrained(tmp_path / "given")
    write(tmp_path / "a.csv", 'text,label\nthe,1\n"",0\n')
    splits = {"train": "a", "calibration": "a", "test": "a"}
    text = {"tokenizer": str(tmp_path / "given")}
    source = DataSource(source="text", path=str(tmp_path / "a.csv"), splits=splits, text=text)
    with pytest.raises(DataError) as refused:
        TextReader(source, ["a"], None)
    said = "has no word in line 3 that becomes a token; leave the line out"
    assert str(refused.value) == f"text file '{tmp_path / 'a.csv'}' {said}"


# how long texts may be


class Own(nn.Module):
    """Positions in a table of its own, which nobody tells of."""

    def __init__(self, length):
        super().__init__()
        self.words, self.layer = nn.Embedding(30, 4), nn.Linear(4, 2)
        self.register_buffer("places", torch.zeros(1, length, 4))

    def forward(self, input_ids, attention_mask):
        x = self.words(input_ids) + self.places[:, : input_ids.shape[1]]
        return self.layer((x * attention_mask.unsqueeze(2)).sum(1))


def family(name, **changes):
    def make():
        sizes = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
                 "intermediate_size": 8, "pad_token_id": 0}  # fmt: skip
        if name == "DistilBert":
            sizes = {"vocab_size": 30, "dim": 8, "n_layers": 1, "n_heads": 1, "hidden_dim": 8}
        if name == "XLM":
            sizes = {"n_words": 30, "emb_dim": 8, "n_layers": 1, "n_heads": 1}
        if name == "T5":
            sizes = {"vocab_size": 30, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
        config = getattr(transformers, f"{name}Config")(**{**sizes, **changes})
        return getattr(transformers, f"{name}ForSequenceClassification")(config)

    return make


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (family("Bert", max_position_embeddings=40), 40),
        (family("Bert"), 512),
        (family("Roberta", max_position_embeddings=42, pad_token_id=1), 40),
        (family("DistilBert", max_position_embeddings=33), 33),
        (family("XLM", max_position_embeddings=50), 50),
        (family("GPT2", n_positions=48, n_embd=8, n_layer=1, n_head=1), 48),
        (family("DebertaV2", max_position_embeddings=40), 40),
        (family("DebertaV2", max_position_embeddings=40, position_biased_input=False), None),
        (family("Llama", max_position_embeddings=40), None),
        (family("ModernBert", max_position_embeddings=8192), 8192),
        (lambda: Own(77), 77),
        (lambda: Own(12), 12),
        (sentences.bag, None),
    ],
    ids=["BERT", "BERT of usual length", "table with rows for padding", "DistilBERT", "XLM", "GPT-2", "DeBERTa",
         "DeBERTa without positions", "rotary", "long, as told", "own table", "own table, as long as the data", "bag"],
)  # fmt: skip
def test_the_longest_text_that_a_model_takes_is_found(make, expected):
    model = Classifier(
        make().eval(), keywords=["input_ids", "attention_mask"], input_names=["input_ids", "attention_mask"]
    )
    ids = torch.tensor([[5, 6, 7, 8, 9, 0, 0, 0, 0, 0, 0, 0]])
    example = {"attention_mask": (ids > 0).long(), "input_ids": ids}
    assert find_max_tokens([model], example) == expected
    other = Classifier(Own(60), keywords=["input_ids", "attention_mask"], input_names=["input_ids", "attention_mask"])
    assert find_max_tokens([other, model], example) == min(expected or 60, 60), "the shortest of all stages"


@pytest.mark.parametrize(
    ("inputs", "names", "refused"),
    [
        ({"input_ids": 9}, ["input_ids"], False),
        ({"input_ids": 10}, ["input_ids"], True),
        ({"input_ids": 10, "attention_mask": 10}, ["input_ids", "attention_mask"], True),
    ],
    ids=["as long as may be", "longer", "with a mask"],
)
def test_a_longer_text_is_refused_with_both_lengths(inputs, names, refused):
    specs = [{"name": name, "dtype": "int64", "shape": ["length"]} for name in names]
    given = {name: np.ones((2, length), np.int64) for name, length in inputs.items()}
    if not refused:
        assert check_inputs(given, names, specs, 9)["input_ids"].shape == (2, 9)
        return
    with pytest.raises(ExportError) as error:
        check_inputs(given, names, specs, 9)
    assert str(error.value) == (
        "a text of 10 tokens came in and the model takes at most 9; call the tokenizer, or the pipeline, with "
        "truncation=True"
    )
    assert check_inputs(given, names, specs).keys() == set(names), "a folder that does not say takes any"
