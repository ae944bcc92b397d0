"""A world of words small enough to run whole recipes in: sentences with a keyword, which `not` turns round."""

import copy
import functools
import gzip
import json
from pathlib import Path

import numpy as np
import tiny
import torch
from safetensors.torch import load_file, save_file

LABELS = ["bad", "good"]
KEYWORDS = {"bad": ["awful", "dull", "poor"], "good": ["fine", "great", "nice"]}
FILLERS = "the film was a story with actors and music from here to there that we saw today".split()
SIZES = {"train": 480, "dev": 320}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
VOCABULARY = [*SPECIAL, *FILLERS, "not", *KEYWORDS["bad"], *KEYWORDS["good"]]
#: Written beside the recipes.
MODELS = '''
import torch
from torch import nn


class Bag(nn.Module):
    """Adds up what each word says and keeps what is above zero; it takes no token types."""

    def __init__(self, words=28, width=2, classes=2):
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.layer = nn.Linear(width, classes)

    def forward(self, input_ids, attention_mask):
        real = attention_mask.unsqueeze(2).to(self.words.weight.dtype)
        return self.layer((self.words(input_ids) * real).sum(1).relu())


def bag(width=2):
    return Bag(width=width)


def load(split):
    """Inputs by name, and labels, as a recipe's own function gives them."""
    import sentences

    inputs, labels = sentences.arrays(split)
    return {**inputs, "token_type_ids": 0 * inputs["input_ids"]}, labels


class Fixed(nn.Module):
    """Works with one number of words alone."""

    def __init__(self, words=28, length=12):
        super().__init__()
        self.words = nn.Embedding(words, 2)
        self.layer = nn.Linear(2 * length, 2)

    def forward(self, input_ids):
        return self.layer(self.words(input_ids).flatten(1))


def fixed(length=12):
    torch.manual_seed(0)
    return Fixed(length=length)
'''


def lines(split: str) -> list[tuple[str, str]]:
    """Texts and labels. Two of three hold a keyword alone; `not` turns the others round, and small bags give up."""
    generator = np.random.default_rng(list(SIZES).index(split))
    found: dict[str, str] = {}
    while len(found) < SIZES[split]:
        words = list(generator.choice(FILLERS, size=generator.integers(3, 9)))
        label = int(generator.integers(2))
        hard = generator.random() < 1 / 3
        keyword = generator.choice(KEYWORDS[LABELS[1 - label if hard else label]])
        words.insert(int(generator.integers(len(words) + 1)), keyword)
        if hard:
            words.insert(int(generator.integers(len(words) + 1)), "not")
        found[" ".join(words)] = LABELS[label]
    return list(found.items())


def tokenizer():
    """Words to indices, with marks at both ends."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    known = {word: index for index, word in enumerate(VOCABULARY)}
    made = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = [(mark, known[mark]) for mark in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=marks
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


@functools.cache
def arrays(split: str):
    """Inputs by name, int64 (N, L), and labels."""
    texts, labels = zip(*lines(split), strict=True)
    tokens = tokenizer()(list(texts), padding=True, return_tensors="np")
    return {name: np.int64(array) for name, array in tokens.items()}, np.int64([LABELS.index(each) for each in labels])


@functools.cache
def module():
    """The module that MODELS makes."""
    space = {"__name__": "word_models"}
    exec(MODELS, space)  # noqa: S102  the text above
    return space


@functools.cache
def _backbone(family: str):
    model = untrained(family)
    model.load_state_dict(load_file(tiny.WEIGHTS / f"{family.lower()}.safetensors"))
    return model.eval()


def untrained(family: str):
    """A transformer as it is before training."""
    import transformers

    sizes = {
        "Bert": dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48),
        "DistilBert": dict(dim=16, n_layers=1, n_heads=2, hidden_dim=32),
    }
    names = dict(enumerate(LABELS))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = getattr(transformers, f"{family}Config")(
            vocab_size=len(VOCABULARY), max_position_embeddings=40, id2label=names,
            label2id={name: index for index, name in names.items()}, **sizes[family],
        )  # fmt: skip
        return getattr(transformers, f"{family}ForSequenceClassification")(config)


def backbone(family: str = "Bert"):
    """A trained copy of a transformer."""
    return copy.deepcopy(_backbone(family))


@functools.cache
def bag(width: int = 2):
    """A saver: of width 2 it is sure and right unless a text holds `not`, and then torn; of width 4 always right."""
    model = module()["bag"](width)
    model.load_state_dict(load_file(tiny.WEIGHTS / f"bag{width}.safetensors"))
    return model.eval()


def recipe(**changes):
    """A whole recipe as a mapping; changes as for `tiny.recipe`."""
    values = {
        "seed": 3,
        "model": {"source": "transformers", "name": "./backbone"},
        "data": {
            "source": "text",
            "path": "texts",
            "splits": {"train": "train", "calibration": "dev[:50%]", "test": "dev[50%:]"},
            "text": {"columns": {"text": "sentence"}},
        },
        "quantization": {"static_quant": {"w_dtype": "int8", "act_dtype": "uint8"}},
        "dynamic_exit": {
            "tiny_saver": {
                "candidates": [{"source": "python", "name": "models.py:bag", "weights": "bag.safetensors"}],
                "max_savers": 1,
            },
            "early_exit": {"count": 1, "training": {"epochs": 15}},
            "tuning": {"max_accuracy_drop": 0.01, "points": [{"max_accuracy_drop": 0.1}]},
        },
        "export": {"directory": "out"},
    }
    return tiny.changed(values, changes)


def build(folder: Path, **changes) -> Path:
    """Write models, tokenizer, texts and the recipe into a folder, and return the recipe's path."""
    (folder / "texts").mkdir(parents=True, exist_ok=True)
    (folder / "models.py").write_text(MODELS)
    for name, family in (("backbone", "Bert"), ("small", "DistilBert")):
        backbone(family).save_pretrained(folder / name)
    tokenizer().save_pretrained(folder / "backbone")
    save_file(bag().state_dict(), folder / "bag.safetensors")
    with gzip.open(folder / "texts" / "train.tsv.gz", "wt") as file:
        file.write("sentence\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in lines("train")))
    with (folder / "texts" / "dev.jsonl").open("w") as file:
        file.writelines(
            json.dumps({"sentence": text, "label": LABELS.index(label)}) + "\n" for text, label in lines("dev")
        )
    return tiny.write(folder, recipe(**changes))
