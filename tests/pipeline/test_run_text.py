"""Whole recipes on text: what the file answers, at any length."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import sentences
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from log_lines import log_lines

from dynamic_exit import DynamicExitModelForSequenceClassification
from dynamic_exit.analysis.evaluate import evaluate_folder
from dynamic_exit.errors import DataError, ExportError
from dynamic_exit.onnx.normalize import all_nodes
from dynamic_exit.pipeline.run import run
from dynamic_exit.recipe import read_recipe

HALF = "bert.encoder.layer.0.output:linear"
OWN = {"source": "python", "path": "models.py:load", "splits": {"train": "train", "calibration": "dev[:50%]",
       "test": "dev[50%:]"}, "classes": sentences.LABELS}  # fmt: skip
SMALL = {"source": "transformers", "name": "./small"}


def ran(folder, **changes):
    path = sentences.build(folder, **changes)
    with log_lines() as said:
        return path, run(read_recipe(path)), said


@pytest.fixture(scope="module")
def int8(tmp_path_factory):
    """Text files, a bag of words in front, an exit, in int8."""
    return ran(tmp_path_factory.mktemp("int8"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Arrays with token types from own code, a transformer in front that takes none, an exit, in float."""
    changes = {"quantization": None, "data": OWN, "dynamic_exit__tiny_saver__candidates": [SMALL]}
    return ran(tmp_path_factory.mktemp("float"), **changes)


def test_the_code_of_the_card_runs_in_the_folder(int8, monkeypatch, capsys):
    folder = int8[1].folder
    monkeypatch.chdir(folder)
    exec((folder / "README.md").read_text().split("```python\n")[1].split("```")[0], {})  # noqa: S102
    assert "tokenizer(" in (folder / "README.md").read_text()
    assert capsys.readouterr().out.startswith("['")


def opened(result):
    session = onnxruntime.InferenceSession(str(result.folder / "model.onnx"), providers=["CPUExecutionProvider"])
    return session, json.loads(session.get_modelmeta().custom_metadata_map["stages"])


def answer(session, feeds, thresholds):
    names = [value.name for value in session.get_inputs()]
    feeds = {name: array for name, array in feeds.items() if name in names}
    return session.run(["logits", "exit_index", "confidence"], {**feeds, "thresholds": np.float32(thresholds)})


def texts(rows, length, seed=0):
    """Words in any order, each row of a length of its own, filled up to one."""
    generator = np.random.default_rng(seed)
    ids = generator.integers(4, len(sentences.VOCABULARY), size=(rows, length))
    real = np.arange(length) < generator.integers(2, length + 1, size=(rows, 1))
    return {
        "input_ids": np.where(real, ids, 0),
        "attention_mask": np.int64(real),
        "token_type_ids": np.zeros_like(ids),
    }


def test_stages_answer_and_points_differ(int8):
    _, result, said = int8
    _, stages = opened(result)
    assert stages == ["bag", HALF]
    assert result.points.baseline.accuracy > 0.95
    assert len({point.stages for point in result.points.points}) == 2
    assert not any("alone" in line for line in said)


def test_the_folder_says_what_goes_in(int8, plain):
    for (_, result, _), names in ((int8, 2), (plain, 3)):
        config = json.loads((result.folder / "config.json").read_text())
        words = ["input_ids", "attention_mask", "token_type_ids"][:names]
        assert config["inputs"] == [{"name": name, "dtype": "int64", "shape": ["length"]} for name in words]
        assert config["id2label"] == {"0": "bad", "1": "good"}
    assert (int8[1].folder / "tokenizer.json").is_file()
    assert not (plain[1].folder / "tokenizer.json").exists()


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 9), length=st.integers(2, 30), seed=st.integers(0, 99))
def test_in_float_every_stage_answers_as_its_torch_model_at_any_length(plain, rows, length, seed):
    session, stages = opened(plain[1])
    feeds = texts(rows, length, seed)
    tensors = {name: torch.from_numpy(array) for name, array in feeds.items()}
    with torch.no_grad():
        expected = {
            "small": sentences.backbone("DistilBert")(tensors["input_ids"], tensors["attention_mask"]).logits,
            "final": sentences.backbone()(**tensors).logits,
        }
    for stage, logits in expected.items():
        found, exits, _ = answer(session, feeds, [-1 if name == stage else np.inf for name in stages])
        np.testing.assert_allclose(torch.softmax(torch.from_numpy(found), 1), torch.softmax(logits, 1), atol=3e-5)
        assert (exits == [*stages, "final"].index(stage)).all()


@pytest.mark.parametrize("numerics", ["plain", "int8"])
def test_filling_up_and_batches_change_nothing(numerics, request):
    _, result, _ = request.getfixturevalue(numerics)
    session, stages = opened(result)
    feeds = texts(40, 11)
    for stage in (*stages, "final"):
        limits = [-1 if name == stage else np.inf for name in stages]
        whole = answer(session, feeds, limits)
        longer = answer(session, {name: np.pad(array, ((0, 0), (0, 8))) for name, array in feeds.items()}, limits)
        alone = [answer(session, {name: array[i : i + 1] for name, array in feeds.items()}, limits) for i in range(40)]
        for other in (longer, [np.concatenate(parts) for parts in zip(*alone, strict=True)]):
            assert (whole[1] == other[1]).all()
            close = np.abs(whole[0] - other[0]).max(1) < 1e-4
            # in int8 a sum that ends in other bits may be rounded to the integer beside
            assert close.all() if numerics == "plain" else close.mean() > 0.9


def test_int8_is_close_to_float(int8):
    session, stages = opened(int8[1])
    inputs, labels = sentences.arrays("dev")
    found = answer(session, inputs, [np.inf] * len(stages))[0].argmax(1)
    assert (found == labels).mean() > 0.97
    kinds = {node.op_type for _, node in all_nodes(onnx.load(int8[1].folder / "model.onnx").graph)}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds


def test_sentences_go_in_through_the_folders_own_tokenizer(int8):
    model = DynamicExitModelForSequenceClassification.from_pretrained(int8[1].folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(int8[1].folder)
    text, labels = zip(*sentences.lines("dev")[:50], strict=True)
    found = model(**tokenizer(list(text), padding=True, return_tensors="pt")).logits.argmax(1)
    right = [model.config.id2label[int(each)] == label for each, label in zip(found, labels, strict=True)]
    assert np.mean(right) > 0.9


def test_the_folder_knows_the_longest_text(int8, plain):
    for (_, result, _), files in ((int8, ["tokenizer.json", "tokenizer_config.json"]), (plain, [])):
        config = json.loads((result.folder / "config.json").read_text())
        assert (config["max_tokens"], config["tokenizer_files"]) == (40, files)
    model = DynamicExitModelForSequenceClassification.from_pretrained(int8[1].folder)
    classify = transformers.pipeline("text-classification", model=model, tokenizer=str(int8[1].folder), device="cpu")
    with pytest.raises(ExportError) as refused:
        classify("the film was fine " * 10)
    assert str(refused.value).startswith("a text of 42 tokens came in and the model takes at most 40; ")
    whole = classify("the film was fine " * 9 + "the film")
    assert classify("the film was fine " * 10, truncation=True) == whole, "38 words and both marks"


def test_evaluating_the_recipe_gives_the_runs_figures(int8):
    path, result, _ = int8
    rows = {row["name"]: row for row in evaluate_folder(result.folder, path, None, 64)}
    for point in result.points.points:
        assert rows[point.name]["accuracy"] == point.accuracy
        assert rows[point.name]["cost_ratio"] == pytest.approx(point.cost_ratio)


def test_evaluating_a_text_file_reads_it_as_the_recipe_did(int8, tmp_path):
    """Its columns, labels and tokenizer are those of the written folder; labels may be names or numbers."""
    _, result, _ = int8
    rows = {}
    for name, write in (("names.tsv", lambda label: label), ("numbers.tsv", sentences.LABELS.index)):
        lines = [f"{text}\t{write(label)}\n" for text, label in sentences.lines("dev")]
        (tmp_path / name).write_text("sentence\tlabel\n" + "".join(lines))
        rows[name] = evaluate_folder(result.folder, tmp_path / name, "backbone", 64)
    assert rows["names.tsv"] == rows["numbers.tsv"]
    (row,) = rows["names.tsv"]
    assert row["samples"] == sentences.SIZES["dev"] and row["accuracy"] > 0.95
    (tmp_path / "other.csv").write_text("text,label\nfine,good\n")
    with pytest.raises(DataError, match="has no column 'sentence'"):
        evaluate_folder(result.folder, tmp_path / "other.csv", None, 64)
    with pytest.raises(DataError, match="is for image-classification, the model in .* for text-classification$"):
        evaluate_folder(result.folder, tmp_path, None, 64)


def test_a_model_of_one_length_gives_a_file_of_that_length(tmp_path):
    _, result, said = ran(
        tmp_path,
        model={"source": "python", "name": "models.py:fixed"},
        data__classes=sentences.LABELS,
        data__text={"tokenizer": "./backbone", "columns": {"text": "sentence"}},
        dynamic_exit__early_exit=None,
        dynamic_exit__tiny_saver__fine_tune={"epochs": 1},
        quantization=None,
    )
    assert "the file takes texts of 12 tokens alone: the model's code treats the length 12 as a constant" in said
    config = json.loads((result.folder / "config.json").read_text())
    assert {tuple(each["shape"]) for each in config["inputs"]} == {(12,)}
    assert any("fine-tuned" in line for line in said)
