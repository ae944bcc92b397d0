"""A text classifier small enough to answer by hand: each word votes, and votes are added up."""

from pathlib import Path

import onnx
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from dynamic_exit.artifact.folder import checksum
from dynamic_exit.modeling import DynamicExitModelConfig
from dynamic_exit.onnx.model_parts import ModelParts
from dynamic_exit.onnx.part import Part
from dynamic_exit.onnx.stitch import stitch
from dynamic_exit.points.operating_point import OperatingPoints

WORDS = ["[PAD]", "[UNK]", "good", "bad", "fine"]
LABELS = ["negative", "neutral", "positive"]
#: The saver knows good and bad, and is not sure of fine; the backbone knows all three.
SAVER_VOTES = [[0, 0, 0], [0, 0, 0], [0, 0, 4], [4, 0, 0], [0, 0.1, 0]]
BACKBONE_VOTES = [[0, 0, 0], [0, 0, 0], [0, 0, 3], [3.5, 0, 0], [0, 5, 0]]
INPUTS = ("input_ids", "attention_mask")
_BAG = """
<ir_version: 10, opset_import: ["" : 20]>
bag ({inputs}) => (float[batch, 3] output) <float[5, 3] votes = {{{votes}}}, int64[1] one = {{1}}, int64[1] two = {{2}}>
{{
  each = Gather (votes, input_ids)
  {weighted}
  output = ReduceSum <keepdims = 0> (counted, one)
}}
"""


def bag(name, votes, takes=INPUTS, length="sequence") -> Part:
    """A part that adds up the votes of all words that are not masked."""
    masked = "mask = Cast <to = 1> (attention_mask) wide = Unsqueeze (mask, two) counted = Mul (each, wide)"
    text = _BAG.format(
        inputs=", ".join(f"int64[batch, {length}] {take}" for take in takes),
        votes=", ".join(str(vote) for row in votes for vote in row),
        weighted=masked if "attention_mask" in takes else "counted = Identity (each)",
    )
    return Part(name, onnx.parser.parse_model(text), takes, "logits")


def write_folder(folder: Path, takes=INPUTS, length: str | int = "sequence") -> Path:
    """Write a dynamic model whose saver answers above 0.8."""
    folder.mkdir(exist_ok=True)
    saver, backbone = bag("saver", SAVER_VOTES, takes, length), bag("segment0", BACKBONE_VOTES, takes, length)
    points = OperatingPoints.model_validate(
        {
            "cost_unit": "macs",
            "baseline": {"accuracy": 0.9, "cost": 100.0},
            "points": [
                {
                    "name": "careful",
                    "goal": {"max_accuracy_drop": 0.0},
                    "stages": [{"stage": "saver", "threshold": 0.8}],
                    "accuracy": 0.9,
                    "accuracy_drop": 0.0,
                    "cost": 40.0,
                    "cost_ratio": 0.4,
                    "exit_rates": {"saver": 0.6, "final": 0.4},
                    "samples": 100,
                }
            ],
        }
    )
    metadata = {"default": "careful", "operating_points": points.model_dump(mode="json", by_alias=True)}
    model = stitch(ModelParts([saver], [backbone], []), backbone.proto.graph.input, 3, [0.8], metadata)
    onnx.save(model, folder / "model.onnx")
    points.write(folder / "operating_points.json")
    DynamicExitModelConfig(
        inputs=[{"name": name, "dtype": "int64", "shape": [length]} for name in takes],
        chain={
            "inputs": takes,
            "segments": [takes],
            "stages": [{"name": "saver", "position": -1, "inputs": takes}],
        },
        default="careful",
        files={"model": "model.onnx"},
        checksums={"model.onnx": checksum(folder / "model.onnx")},
        id2label=dict(enumerate(LABELS)),
        label2id={name: index for index, name in enumerate(LABELS)},
    ).save_pretrained(folder)
    return folder


def tokenizer() -> PreTrainedTokenizerFast:
    """One word, one token; it also gives `token_type_ids`."""
    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", model_input_names=names
    )


def by_hand(texts) -> list[tuple[str, str, float]]:
    """Who answers each text, with what and how sure."""
    found = []
    for text in texts:
        rows = [WORDS.index(word) for word in text.split()]
        for stage, votes in (("saver", SAVER_VOTES), ("final", BACKBONE_VOTES)):
            share = torch.tensor(votes)[rows].sum(0).softmax(0)
            if stage == "final" or share.max() > 0.8:
                found.append((stage, LABELS[int(share.argmax())], float(share.max())))
                break
    return found
