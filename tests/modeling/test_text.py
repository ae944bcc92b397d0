"""Text classifiers: inputs by name, lengths that are free, and transformers' pipeline."""

import logging

import numpy as np
import pytest
import torch
import words
from transformers import AutoTokenizer, pipeline

from dynamic_exit import DynamicExitModelForImageClassification, DynamicExitModelForSequenceClassification
from dynamic_exit.errors import ExportError
from dynamic_exit.modeling import AutoDynamicExitModel

TEXTS = ["good", "bad bad", "fine", "good bad", "good good bad", "good fine fine bad fine"]
IDS = np.array([[2, 3, 0], [4, 4, 4]])
MASK = np.array([[1, 1, 0], [1, 1, 1]])
TAKES = "the model takes the inputs input_ids, attention_mask"
MASKS = "input 'attention_mask' has"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return words.write_folder(tmp_path_factory.mktemp("text") / "model")


@pytest.fixture
def model(folder):
    return DynamicExitModelForSequenceClassification.from_pretrained(folder)


def test_each_text_is_answered_by_the_stage_that_is_sure(model):
    expected = words.by_hand(TEXTS)
    assert [row[0] for row in expected] == ["saver", "saver", "final", "final", "saver", "final"]
    batch = words.tokenizer()(TEXTS, padding=True, return_tensors="pt")
    answer = model(**batch)
    assert [(*model.stages, "final")[index] for index in answer.exit_index] == [row[0] for row in expected]
    assert [words.LABELS[label] for label in answer.logits.argmax(1)] == [row[1] for row in expected]
    assert answer.confidence.tolist() == pytest.approx([row[2] for row in expected], abs=1e-6)


def test_any_length_and_batch_gives_the_same(model):
    whole = model(IDS, MASK)
    assert np.array_equal(whole.exit_index, [1, 1])
    for row, length in ((0, 2), (1, 3)):
        alone = model(input_ids=IDS[row : row + 1, :length], attention_mask=MASK[row : row + 1, :length])
        np.testing.assert_allclose(alone.logits, whole.logits[row : row + 1], atol=1e-6)
    wide = model(np.pad(IDS, ((0, 0), (0, 9))), np.pad(MASK, ((0, 0), (0, 9))))
    np.testing.assert_allclose(wide.logits, whole.logits, atol=1e-6)


def test_torch_and_numpy_and_every_kind_of_whole_number(model):
    expected = model(IDS, MASK).logits
    assert isinstance(model(torch.tensor(IDS), torch.tensor(MASK)).logits, torch.Tensor)
    for kind in (np.int32, np.uint8, np.int64):
        assert np.array_equal(model(IDS.astype(kind), MASK.astype(bool)).logits, expected)


def test_a_mask_that_is_left_out_is_all_ones(model):
    assert np.array_equal(model(IDS).logits, model(IDS, np.ones_like(MASK)).logits)
    assert not np.array_equal(model(IDS[:, :2], MASK[:, ::-1][:, :2]).logits, model(IDS[:, :2]).logits)


def test_token_types_are_for_models_that_take_them(model, tmp_path):
    types = np.zeros_like(IDS)
    assert np.array_equal(model(IDS, MASK, types).logits, model(IDS, MASK).logits)
    taking = words.write_folder(tmp_path / "types", (*words.INPUTS, "token_type_ids"))
    taking = DynamicExitModelForSequenceClassification.from_pretrained(taking)
    assert taking.input_names == (*words.INPUTS, "token_type_ids")
    assert np.array_equal(taking(IDS, MASK).logits, taking(IDS, MASK, types).logits)


def test_a_model_without_a_mask_refuses_padding(tmp_path):
    bare = DynamicExitModelForSequenceClassification.from_pretrained(words.write_folder(tmp_path, ("input_ids",)))
    assert np.array_equal(bare(IDS, np.ones_like(MASK)).logits, bare(IDS).logits)
    with pytest.raises(ExportError, match="^the model takes no attention_mask, and some tokens are masked; give them"):
        bare(IDS, MASK)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m(), f"{TAKES}; got none"),
        (lambda m: m(IDS, MASK, pixels=IDS), f"{TAKES}; got input_ids, attention_mask, pixels"),
        (lambda m: m(IDS[0], MASK[0]), "input 'input_ids' must be of shape (batch, sequence); got (3,)"),
        (lambda m: m(IDS, MASK[:, :2]), f"{MASKS} 2 for 'sequence', input 'input_ids' has 3; give all the same"),
        (lambda m: m(IDS, MASK[:1]), f"{MASKS} 1 for 'batch', input 'input_ids' has 2; give all the same"),
        (lambda m: m(IDS + 0.5, MASK), "input 'input_ids' must be of type int64; got float64"),
        (lambda m: m(np.array([["good"]])), "input 'input_ids' must be of type int64; got <U4"),
    ],
)
def test_wrong_inputs_are_refused(model, call, message):
    with pytest.raises(ExportError) as refused:
        call(model)
    assert str(refused.value) == message


def test_a_length_that_the_file_fixes_must_be_met(tmp_path):
    fixed = DynamicExitModelForSequenceClassification.from_pretrained(words.write_folder(tmp_path, length=3))
    assert np.array_equal(fixed(IDS, MASK).exit_index, [1, 1])
    with pytest.raises(ExportError, match=r"^input 'input_ids' must be of shape \(batch, 3\); got \(2, 2\)$"):
        fixed(IDS[:, :2], MASK[:, :2])


def test_the_pipeline_classifies_text(model, folder, caplog, monkeypatch):
    """With a tokenizer from memory, and with the one that was saved into the folder."""
    words.tokenizer().save_pretrained(folder)
    expected = [(label, pytest.approx(score, abs=1e-5)) for _, label, score in words.by_hand(TEXTS)]
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    with caplog.at_level(logging.ERROR):
        for tokenizer in (words.tokenizer(), str(folder)):
            classify = pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
            for batch_size in (1, 4):
                found = classify(TEXTS, batch_size=batch_size)
                assert [(each["label"], each["score"]) for each in found] == expected
    assert not caplog.records, "such as that the pipeline does not know the class"


def test_the_tokenizer_goes_along(folder, model, tmp_path):
    words.tokenizer().save_pretrained(folder)
    model.save_pretrained(tmp_path / "copy")
    assert AutoTokenizer.from_pretrained(tmp_path / "copy")("good fine")["input_ids"] == [2, 4]


def test_the_class_is_told_by_the_configuration(folder, ran):
    assert type(AutoDynamicExitModel.from_pretrained(folder)) is DynamicExitModelForSequenceClassification
    assert (
        type(AutoDynamicExitModel.from_pretrained(ran.folder, operating_point="frugal"))
        is DynamicExitModelForImageClassification
    )
    with pytest.raises(ExportError) as refused:
        DynamicExitModelForImageClassification.from_pretrained(folder)
    assert str(refused.value) == (
        f"'{folder}' is for text-classification, DynamicExitModelForImageClassification is for image-classification; "
        "use the other class"
    )
