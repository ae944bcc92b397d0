"""Files of labelled text, and inputs by name."""

import gzip
import json

import numpy as np
import pytest
import sentences
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import PreTrainedTokenizerFast

from dynamic_exit.data.checks import check_samples, resolve_overlaps
from dynamic_exit.data.loading import load_splits
from dynamic_exit.data.npz_source import read_npz
from dynamic_exit.data.split import UNNAMED, Split
from dynamic_exit.data.text_files import find_file, read_text
from dynamic_exit.errors import DataError, DynamicExitError, RecipeError
from dynamic_exit.passes import ModelSource
from dynamic_exit.pipeline.inputs import load_run_inputs
from dynamic_exit.recipe import Columns, DataSource, parse_recipe, read_recipe
from dynamic_exit.sources.models.loading import load_model

IDS = np.arange(12).reshape(3, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A recipe's folder with models, tokenizer and texts."""
    folder = tmp_path_factory.mktemp("texts")
    sentences.build(folder)
    return folder


def write(path, text):
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt", encoding="utf-8") as file:
        file.write(text)
    return path


@pytest.mark.parametrize(
    ("name", "text", "columns"),
    [
        ("a.csv", 'text,label\n"one, two",1\n"say ""so""",0\n', {}),
        ("a.tsv", 'label\ttext\n1\tone, two\n0\tsay "so"\n', {}),
        ("a.tsv.gz", '1\tone, two\t?\n0\tsay "so"\t?\n', {"text": 1, "label": 0}),
        ("a.jsonl", '{"x": "one, two", "y": 1}\n\n{"x": "say \\"so\\"", "y": "0"}\n', {"text": "x", "label": "y"}),
        ("a.jsonl.gz", '{"text": "one, two", "label": 1}\n{"text": "say \\"so\\"", "label": 0}\n', {}),
    ],
)
def test_every_kind_of_file_gives_texts_and_labels(tmp_path, name, text, columns):
    rows = read_text(write(tmp_path / name, text), Columns(**columns))
    assert rows.texts == (["one, two", 'say "so"'],)
    assert list(map(int, rows.labels)) == [1, 0]


def test_labels_may_be_names_and_texts_may_come_in_pairs(tmp_path):
    path = write(tmp_path / "a.csv", "q,a,kind\nwho,me,no\nwhat,this,yes\n")
    rows = read_text(path, Columns(text="q", pair="a", label="kind"))
    assert rows.texts == (["who", "what"], ["me", "this"])
    assert rows.labels == ["no", "yes"]


@pytest.mark.parametrize(
    ("name", "text", "columns", "message"),
    [
        ("a.csv", "text,label\none,1\n", {"text": "txt"}, "no column 'txt' in line 2 (there: text, label)"),
        ("a.csv", "one,1\ntwo,2\n", {"text": 0, "label": 2}, "no column '2' in line 1 (there: 2 columns)"),
        ("a.csv", "text,label\n", {}, "holds no samples"),
        ("a.csv", 'text,label\n"one,1\n', {}, "cannot be read: unexpected end of data"),
        ("a.jsonl", "[1]\n", {}, "no column 'text' in line 1"),
        ("a.jsonl", "{\n", {}, "cannot be read: "),
        ("a.jsonl", '{"text": 1, "label": 1}', {"text": 0, "label": 1}, "has keys, no numbered columns"),
        ("a.txt", "one", {}, "must end in .csv, .tsv, .jsonl, with or without .gz"),
    ],
)
def test_files_that_cannot_be_used_are_refused(tmp_path, name, text, columns, message):
    with pytest.raises(DataError) as refused:
        read_text(write(tmp_path / name, text), Columns(**columns))
    assert message in str(refused.value)


def test_a_file_that_is_not_what_it_is_called_is_refused(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(b"text,label\none,1\n")
    (tmp_path / "b.csv").write_bytes(b"text,label\n\xff,1\n")
    for name in ("a.csv.gz", "b.csv"):
        with pytest.raises(DataError, match="cannot be read"):
            read_text(tmp_path / name, Columns())


def test_splits_name_files_with_or_without_endings(tmp_path):
    for name in ("train.tsv.gz", "test.csv", "test.jsonl"):
        (tmp_path / name).touch()
    for name in ("train", "train.tsv", "train.tsv.gz"):
        assert find_file(tmp_path, name).name == "train.tsv.gz"
    assert find_file(tmp_path / "test.csv", "anything").name == "test.csv"
    for name, message in (("test", "2 files of the name 'test'"), ("trian", "did you mean 'train'")):
        with pytest.raises(DataError, match=message):
            find_file(tmp_path, name)


def test_texts_become_token_indices_of_one_length(folder):
    splits = load_splits(
        read_recipe(folder / "recipe.yaml").data, 0, ModelSource(source="transformers", name=str(folder / "backbone"))
    )
    assert [len(split) for split in splits.values()] == [480, 160, 160]
    inputs, labels = sentences.arrays("train")
    length = splits["train"].inputs["input_ids"].shape[1]
    assert {array.shape[1] for split in splits.values() for array in split.inputs.values()} == {length}
    for name, array in splits["train"].inputs.items():
        assert array.dtype == np.int64
        filled = np.pad(inputs[name], ((0, 0), (0, length - inputs[name].shape[1])))
        assert (array == filled).all()
    assert (splits["train"].labels == labels).all()


@pytest.mark.parametrize(
    ("options", "length"), [({"max_length": 5}, 5), ({"max_length": 40, "padding": "max_length"}, 40)]
)
def test_max_length_cuts_and_fills(folder, options, length):
    text = {"columns": {"text": "sentence"}, "tokenizer": str(folder / "backbone"), **options}
    splits = {"train": "train", "calibration": "dev[:50%]", "test": "dev[50%:]"}
    source = DataSource(
        source="text", path=str(folder / "texts"), splits=splits, classes=sentences.LABELS, text=text, duplicates="drop"
    )
    ids = load_splits(source, 0)["train"].inputs["input_ids"]
    assert ids.shape[1] == length
    assert (ids[:, -1] == sentences.VOCABULARY.index("[SEP]" if length == 5 else "[PAD]")).all()


def refusal(folder, **changes):
    with pytest.raises(DynamicExitError) as refused:
        load_run_inputs(parse_recipe(sentences.recipe(**changes), folder))
    return str(refused.value)


def test_what_cannot_be_tokenized_is_refused(folder, tmp_path):
    own = {"source": "python", "name": "models.py:bag"}
    assert refusal(folder, model=own).endswith("name a folder or a model in `data.text.tokenizer`")
    empty = refusal(folder, data__text={"tokenizer": str(tmp_path)})
    assert empty.startswith(f"folder '{tmp_path}' holds no tokenizer")
    unfilled = sentences.tokenizer()
    unfilled.pad_token = None
    unfilled.save_pretrained(tmp_path / "unfilled")
    assert "has no token to fill texts up with" in refusal(folder, data__text={"tokenizer": str(tmp_path / "unfilled")})


def test_a_tokenizer_that_knows_no_word_is_refused(folder, tmp_path):
    few = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1}, unk_token="[UNK]"))
    few.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=few, unk_token="[UNK]", pad_token="[PAD]").save_pretrained(tmp_path)
    said = refusal(folder, data__text={"columns": {"text": "sentence"}, "tokenizer": str(tmp_path)})
    assert said.startswith(f"the tokenizer '{tmp_path}' knows few of the words in text file '{folder}/texts/")
    assert "different texts it makes 7, most tokens being '[UNK]' (2 tokens are known); save the one" in said


def test_stanzas_of_text_that_contradict_themselves_are_refused(folder):
    for changes, message in (
        ({"data__source": "npz"}, "holds `text`, which is for `source: text`, not for `source: npz`"),
        ({"data__text": {"padding": "max_length"}}, "fills up to `max_length`, which it does not hold"),
        ({"data__text": {"columns": {"text": 0}}}, "must hold names alone or numbers alone; got 0, 'label'"),
        ({"data__text": {"max_lenght": 3}}, "did you mean 'max_length'"),
    ):
        with pytest.raises(RecipeError, match=message.replace("`", ".")):
            parse_recipe(sentences.recipe(**changes), folder)


def test_npz_finds_arrays_by_name(tmp_path):
    np.savez(tmp_path / "a.npz", input_ids=IDS, attention_mask=IDS > 0, labels=[0, 1, 0])
    inputs, labels = check_samples(*read_npz(tmp_path, "a"), split="a")
    assert list(inputs) == ["input_ids", "attention_mask"]
    assert (inputs["input_ids"] == IDS).all() and labels.tolist() == [0, 1, 0]
    np.savez(tmp_path / "b.npz", input_ids_one=IDS, y_one=[1, 1, 1], input_ids_two=IDS + 1, y_two=[0, 0, 0])
    inputs, labels = read_npz(tmp_path / "b.npz", "two")
    assert {name: array.tolist() for name, array in inputs.items()} == {"input_ids": (IDS + 1).tolist()}
    assert labels.tolist() == [0, 0, 0]
    with pytest.raises(DataError, match="has no array 'labels_three'|has no array 'inputs_three'"):
        read_npz(tmp_path / "b.npz", "three")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"input_ids": IDS, "numbers": np.zeros((2, 5))}, "has 2 samples of input 'numbers' and 3 of 'input_ids'"),
        (
            {"input_ids": IDS, "attention_mask": IDS[:, :3]},
            r"'attention_mask' of shape \[3, 3\] and 'input_ids' of shape \[3, 4\]",
        ),
        ({"hidden": IDS}, "has a name that no input may have"),
        ({"input_ids": IDS, "x": np.array([["a"]] * 3)}, "input 'x', must hold numbers"),
        ({"x": np.full((3, 2), np.nan)}, "input 'x', holds NaN or infinity, first in sample 0"),
        ({}, "has no inputs"),
    ],
)
def test_inputs_that_do_not_fit_each_other_are_refused(inputs, message):
    with pytest.raises(DataError, match=message):
        check_samples(inputs, [0, 1, 0], split="train")


def test_samples_are_the_same_only_if_all_inputs_are(tmp_path):
    def split(key, *extra):
        return Split(key, {"a": np.ones((2, 1)) * [[0], [1]], "b": np.float64(extra).reshape(2, 1)}, np.zeros(2, int))

    apart = resolve_overlaps(
        {"train": split("train", 1, 2), "calibration": split("calibration", 3, 4), "test": split("test", 5, 6)}
    )
    assert [len(each) for each in apart.values()] == [2, 2, 2]
    with pytest.raises(DataError, match="overlap in 1 samples, first sample 1 of 'train' and 1 of 'test'"):
        resolve_overlaps(
            {"train": split("train", 1, 6), "calibration": split("calibration", 3, 4), "test": split("test", 5, 6)}
        )


def test_a_split_is_fed_by_the_models_names():
    named = Split("test", {"a": IDS, "b": IDS}, np.zeros(3, int))
    assert list(named.feeds(["b"])) == ["b"]
    assert list(Split("test", {UNNAMED: IDS}, np.zeros(3, int)).feeds(["x"])) == ["x"]
    with pytest.raises(DataError, match="has no input 'c', which the model takes; it has a, b"):
        named.feeds(["a", "c"])


class Both(nn.Module):
    def forward(self, input_ids, attention_mask, extra=None):
        return input_ids


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["input_ids", "attention_mask", "token_type_ids"], ("input_ids", "attention_mask")),
        (["extra", "attention_mask", "input_ids"], ("extra", "attention_mask", "input_ids")),
        (["input_ids"], "needs the input 'attention_mask'; the data hold input_ids"),
    ],
)
def test_a_model_gets_what_its_forward_names(names, expected):
    source = ModelSource(source="python", name="m.py:f")
    if isinstance(expected, str):
        with pytest.raises(DynamicExitError, match=expected):
            load_model(source, names, Both())
        return
    model = load_model(source, names, Both())
    assert model.input_names == model.keywords == expected


def test_one_input_fits_a_model_of_one_whatever_its_name(tmp_path):
    """A `Sequential` calls its input `input`; users call their arrays after what they hold."""
    series = np.random.default_rng(0).random((60, 1, 8), np.float32)
    np.savez(tmp_path / "beats.npz", series=series, label=np.arange(60) % 2)
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(8, 2))\n"
    )
    parts = {"train": "[:60%]", "calibration": "[60%:80%]", "test": "[80%:]"}
    recipe = {
        "model": {"source": "python", "name": "net.py:net"},
        "data": {"source": "npz", "path": "beats.npz", "splits": parts},
        "dynamic_exit": {"early_exit": {}, "tuning": {"max_accuracy_drop": 0.01}},
        "export": {"directory": "out"},
    }
    inputs = load_run_inputs(parse_recipe(recipe, tmp_path))
    assert list(inputs.example) == ["input"] and not inputs.by_name
    assert [len(split.inputs["input"]) for split in inputs.splits.values()] == [36, 12, 12]
    assert list(Split("test", {"series": IDS}, np.zeros(3, int)).feeds(["input"])) == ["input"]


def test_a_misspelt_input_is_refused(folder, tmp_path):
    inputs, labels = sentences.arrays("train")
    named = {"input_ids": inputs["input_ids"], "atention_mask": inputs["attention_mask"], "labels": labels}
    parts = {"train": slice(0, 9), "calibration": slice(9, 18), "test": slice(18, 27)}
    for key, rows in parts.items():
        np.savez(tmp_path / f"{key}.npz", **{name: array[rows] for name, array in named.items()})
    data = {"source": "npz", "path": str(tmp_path), "splits": {key: key for key in parts}, "duplicates": "drop"}
    assert refusal(folder, data=data) == "the backbone takes no input 'atention_mask'; did you mean 'attention_mask'?"


def test_a_text_longer_than_the_model_is_refused(folder, tmp_path):
    (tmp_path / "texts").mkdir()
    for name in ("train", "dev"):
        lines = [
            {"sentence": f"{'the' if name == 'dev' else 'a'} film " * (40 + i), "label": i % 2}
            for i in range(6 if name == "train" else 8)
        ]
        write(tmp_path / "texts" / f"{name}.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    said = refusal(folder, data__path=str(tmp_path / "texts"), data__duplicates="drop")
    assert said.startswith("the backbone refuses inputs of shape [2, ") and said.endswith(
        "; set `data.text.max_length`"
    )


def test_a_hugging_face_model_is_built_for_what_it_was_saved_for(folder):
    model = load_model(ModelSource(source="transformers", name=str(folder / "small")), ["input_ids", "attention_mask"])
    assert type(model.model).__name__ == "DistilBertForSequenceClassification"
    ids = torch.from_numpy(sentences.arrays("train")[0]["input_ids"][:4])
    expected = sentences.backbone("DistilBert")(ids, torch.ones_like(ids)).logits
    torch.testing.assert_close(model(ids, torch.ones_like(ids)), expected)
