"""Exits of causal models, and of samples that are padded in front: the same answers however a text is padded."""

import pytest
import sentences
import torch
import transformers

from dynamic_exit.cost import node_macs
from dynamic_exit.graph import Classifier, capture, find_cuts, split
from dynamic_exit.passes.early_exit import (
    EarlyExitStanza,
    ExitTraining,
    FrozenBackbone,
    TrainingSamples,
    attach_exits,
    choose_cuts,
)
from dynamic_exit.passes.early_exit.attach import _has_class_token
from dynamic_exit.passes.early_exit.heads import Standardize
from dynamic_exit.runtime.model import DynamicExitModel

NAMES = ["input_ids", "attention_mask"]
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
SIZES = {
    "Llama": {**SMALL, "num_key_value_heads": 2},
    "GPT2": {"n_embd": 16, "n_layer": 2, "n_head": 2},
    "Bert": SMALL,
}


def padded(side="right", length=None, rows=slice(None)):
    """Token indices and masks of the calibration texts."""
    tokenizer = sentences.tokenizer()
    tokenizer.padding_side = side
    texts = [text for text, _ in sentences.lines("dev")][:24][rows]
    filled = "max_length" if length else True
    tokens = tokenizer(texts, padding=filled, max_length=length, return_tensors="pt")
    return {name: tokens[name] for name in NAMES}


def segments_of(family, inputs):
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(
        vocab_size=len(sentences.VOCABULARY), pad_token_id=0, bos_token_id=2, eos_token_id=3, num_labels=2,
        **SIZES[family],
    )  # fmt: skip
    model = getattr(transformers, f"{family}ForSequenceClassification")(config).eval()
    classifier = Classifier(model, keywords=NAMES, input_names=NAMES)
    program = capture(classifier, [inputs[name][:2] for name in NAMES])
    cuts = choose_cuts(find_cuts(program, node_macs(program.graph_module, program.example_inputs)), "all", 1)[-1:]
    return FrozenBackbone(split(program, cuts), cuts, 2)


def served(backbone, inputs, heads):
    labels = torch.arange(len(inputs["input_ids"])) % 2
    stanza = EarlyExitStanza.model_validate({"heads": heads, "training": {"epochs": 2, "validation": 0}})
    exits = attach_exits(backbone, TrainingSamples(inputs, labels), ExitTraining(stanza, 1))
    return DynamicExitModel(backbone.segments, input_names=NAMES, exits=exits)


@pytest.mark.parametrize(("family", "trained"), [("Llama", "right"), ("Llama", "left"), ("GPT2", "right")])
def test_exits_of_causal_models_answer_alike_however_a_text_is_padded(family, trained):
    backbone = segments_of(family, padded(trained))
    model = served(backbone, padded(trained), ["linear", "attention"])
    # positions of GPT-2 count padding in front, in transformers too
    sides = ["right"] if family == "GPT2" else ["right", "left"]
    for stage in range(3):  # two heads, the final
        model.set_thresholds([-1.0 if at == stage else float("inf") for at in range(2)])
        with torch.no_grad():
            alone = torch.cat([model(*padded(rows=slice(at, at + 1)).values())[0] for at in range(24)])
            for given in [padded(side, length) for side in sides for length in (None, 20)]:
                torch.testing.assert_close(model(*given.values())[0], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("family", "side", "expected"),
    [("Bert", "right", True), ("Bert", "left", False), ("Llama", "right", False), ("GPT2", "right", False)],
)
def test_which_models_have_a_class_token(family, side, expected):
    inputs = padded(side)
    assert _has_class_token(segments_of(family, inputs), inputs) == expected


def test_rounding_alone_is_no_feature():
    values = torch.tensor([[5.0, 1.0], [5.0, 3.0]]) + torch.tensor([[5e-7, 0.0], [0.0, 0.0]])
    norm = Standardize(2)
    norm.fit(values)
    assert norm(values).tolist() == [[0.0, -1.0], [0.0, 1.0]] and norm.scale.tolist() == [0.0, 1.0]
    norm.fit(torch.tensor([[0.0, 1.0], [0.0, 3.0]]))
    assert norm.scale.tolist() == [1000.0, 1.0], "what is zero stays zero with any scale"
