"""Real sentences: a small BERT and a bag of words, both trained here, from text files to one file."""

from collections import Counter

import numpy as np
import pytest
import torch
from outside_data import DATA, needs
from safetensors.torch import save_file
from torch import nn

from dynamic_exit.data.loading import load_splits
from dynamic_exit.pipeline.run import run
from dynamic_exit.recipe import DataSource, parse_recipe

WORDS, LENGTH = 4000, 24
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
MODELS = f"""
from torch import nn


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.layer = nn.Embedding({WORDS}, 16), nn.Linear(16, 2)

    def forward(self, input_ids, attention_mask):
        real = attention_mask.unsqueeze(2).float()
        return self.layer((self.words(input_ids) * real).sum(1) / real.sum(1))
"""

pytestmark = needs("text/sst2_train.tsv.gz", "SST-2")


def data(folder):
    return {
        "source": "text",
        "path": str(DATA / "text"),
        "splits": {"train": "sst2_train[:20%]", "calibration": "sst2_dev[:30%]", "test": "sst2_test"},
        "duplicates": "drop",
        "text": {
            "tokenizer": str(folder / "bert"), "max_length": LENGTH, "padding": "max_length",
            "columns": {"text": "sentence"},
        },
    }  # fmt: skip


def make_tokenizer(folder):
    """The most frequent words of the training split, lower case as they stand there."""
    import gzip

    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    with gzip.open(DATA / "text" / "sst2_train.tsv.gz", "rt", encoding="utf-8") as file:
        counts = Counter(word for line in file for word in line.rpartition("\t")[0].split())
    words = [*SPECIAL, *(word for word, _ in counts.most_common(WORDS - len(SPECIAL)))]
    made = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)


def fit(model, split, epochs, rate):
    inputs, labels = split.tensors, torch.from_numpy(split.labels)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).split(128):
            answer = model(input_ids=inputs["input_ids"][rows], attention_mask=inputs["attention_mask"][rows])
            optimizer.zero_grad()
            nn.functional.cross_entropy(getattr(answer, "logits", answer), labels[rows]).backward()
            optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    from transformers import BertConfig, BertForSequenceClassification

    folder = tmp_path_factory.mktemp("sst2")
    make_tokenizer(folder / "bert")
    (folder / "models.py").write_text(MODELS)
    splits = load_splits(DataSource.model_validate(data(folder)), 0)
    space = {"__name__": "sst2_models"}
    exec(MODELS, space)  # noqa: S102  the text above
    with torch.random.fork_rng():
        torch.manual_seed(0)
        bag = fit(space["Bag"](), splits["train"], 3, 1e-2)
        config = BertConfig(
            vocab_size=WORDS, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
            max_position_embeddings=LENGTH, id2label={0: "negative", 1: "positive"},
        )  # fmt: skip
        backbone = fit(BertForSequenceClassification(config), splits["train"], 2, 2e-3)
    save_file(bag.state_dict(), folder / "bag.safetensors")
    backbone.save_pretrained(folder / "bert")
    recipe = {
        "model": {"source": "transformers", "name": str(folder / "bert")},
        "data": data(folder),
        "quantization": {"static_quant": {"w_dtype": "int8", "act_dtype": "uint8"}},
        "dynamic_exit": {
            "tiny_saver": {"candidates": [{"source": "python", "name": "models.py:Bag", "weights": "bag.safetensors"}]},
            "early_exit": {"count": 1, "training": {"epochs": 5}},
            "tuning": {"max_accuracy_drop": 0.01},
        },
        "export": {"directory": "out"},
    }
    return splits, backbone, run(parse_recipe(recipe, folder))


def test_a_recipe_on_sentences_saves_most_of_the_cost(ran):
    splits, backbone, result = ran
    with torch.no_grad():
        found = backbone(**splits["test"].tensors).logits.argmax(1).numpy()
    accuracy = (found == splits["test"].labels).mean()
    assert len(splits["test"]) > 800 and accuracy > 0.7
    assert abs(result.points.baseline.accuracy - accuracy) < 0.01  # int8
    (point,) = result.points.points
    assert point.cost_ratio < 0.7
    assert point.accuracy > accuracy - 0.03


def test_phrases_and_whole_sentences_are_told_apart(ran):
    """The dev split holds phrases, the test split sentences."""
    _, _, result = ran
    assert result.metrics.samples_differ
    assert any(
        note.startswith("calibration and test samples differ: at some confidence of stage")
        for note in result.metrics.notes
    )


def test_the_file_answers_texts_that_are_shorter(ran):
    from dynamic_exit import DynamicExitModelForSequenceClassification

    splits, _, result = ran
    model = DynamicExitModelForSequenceClassification.from_pretrained(result.folder)
    inputs = splits["test"].inputs
    short = inputs["attention_mask"].sum(1) <= LENGTH // 2
    whole = model(**{name: array[short] for name, array in inputs.items()})
    cut = model(**{name: array[short, : LENGTH // 2] for name, array in inputs.items()})
    assert short.sum() > 50
    assert (whole.exit_index == cut.exit_index).mean() > 0.98
    np.testing.assert_allclose(whole.confidence, cut.confidence, atol=0.02)
