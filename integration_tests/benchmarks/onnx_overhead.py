"""What one dynamic ONNX file costs where it cannot save anything, and where it saves everything, in one runtime.

    python integration_tests/benchmarks/onnx_overhead.py [--models resnet50 ...] [--batches 1 8 64] [--rounds 15]
        [--time-limit 60] [--runtime onnxruntime]

Random weights, seed 0, one thread. Two comparisons, each interleaved in one run; medians and quartiles of time
without waits for a processor, which other programs disturb least:
- nothing exits: the saver is off, three exits with linear heads are on and no row passes their thresholds, against the
  static model;
- all leave at the saver, against the saver's own session.
Bars: at most 1.12 at batch 1 and 1.05 at 8 and 64 where nothing exits, at most 1.15 where all leave at the saver.
"""

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import timm
import torch
import transformers
from onnx_zoo import build, rows_of
from zoo_models import Made

from dynamic_exit.core.user_code import load_function
from dynamic_exit.cost import measure_latency
from dynamic_exit.graph import Classifier
from dynamic_exit.onnx.export import export_part
from dynamic_exit.recipe.target_registry import DEFAULT_TARGET, TARGETS

CIFAR = Path(__file__).resolve().parents[2] / "recipes/cifar10/models.py"
MODELS = ("resnet50", "vit_small_patch16_224", "cifar10 resnet56", "bert")
OFF, NEVER, ALWAYS = np.inf, 2.0, -np.inf


def made(name: str) -> tuple[Made, torch.nn.Module]:
    """A backbone with an example, and its saver."""
    if name == "bert":
        ids = torch.randint(5, 1000, (2, 64))
        example, keywords = (
            (ids, torch.ones_like(ids), torch.zeros_like(ids)),
            ("input_ids", "attention_mask", "token_type_ids"),
        )
        return (bert(256, 4), example, keywords), Classifier(bert(64, 2), keywords=keywords)
    if name == "cifar10 resnet56":
        model, saver = load_function(f"{CIFAR}:resnet")(depth=56), load_function(f"{CIFAR}:resnet8")()
        side = 32
    else:
        model, saver, side = timm.create_model(name), timm.create_model("mobilenetv3_small_100"), 224
    return (model.eval(), (torch.randn(2, 3, side, side),), None), saver.eval()


def bert(width: int, depth: int) -> torch.nn.Module:
    """A BERT of four classes whose heads have 64 channels."""
    config = transformers.BertConfig(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        num_labels=4,
    )
    return transformers.BertForSequenceClassification(config).eval()


def measure(name: str, batches: list[int], rounds: int, time_limit: float, runtime: str) -> Iterator[str]:
    """Yield a line for each batch size and case."""
    (model, example, keywords), saver = made(name)
    built = build((model, example, keywords), saver)
    open_model = partial(TARGETS.find(runtime).open_model, threads=1)
    sessions = {
        "nothing exits": open_model(
            export_part("static", Classifier(model, keywords=keywords), built.names, "logits", example).proto
        ),
        "all leave at the saver": open_model(built.parts[0].proto),
    }
    dynamic, exits = open_model(built.file), len(built.model.chain) - 1
    thresholds = {"nothing exits": [OFF] + [NEVER] * exits, "all leave at the saver": [ALWAYS] + [NEVER] * exits}
    for batch in batches:
        feeds = dict(zip(built.names, rows_of(example, built.names, batch), strict=True))
        for case, static in sessions.items():
            given = {**feeds, "thresholds": np.asarray(thresholds[case], np.float32)}
            calls = {"static": lambda: static.run(None, feeds), "dynamic": lambda: dynamic.run(None, given)}  # noqa: B023
            found = measure_latency(calls, batch=batch, rounds=rounds, time_limit=time_limit)
            ours, plain = found["dynamic"], found["static"]
            times = [f"{1e3 * t.median:.3f} ms ({1e3 * t.low:.3f} to {1e3 * t.high:.3f})" for t in (ours, plain)]
            yield (
                f"{name:24} batch {batch:3}  {case:22} {ours.median / plain.median:.3f}x  {times[0]} against "
                f"{times[1]} a sample, {ours.rounds} rounds"
            )


def main() -> None:
    """Measure all models."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--time-limit", type=float, default=60, help="seconds of a batch size and case")
    parser.add_argument("--runtime", default=DEFAULT_TARGET, help="the target whose runtime is timed")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    np.random.seed(0)
    torch.set_num_threads(1)
    for name in arguments.models:
        for line in measure(name, arguments.batches, arguments.rounds, arguments.time_limit, arguments.runtime):
            print(line, flush=True)


if __name__ == "__main__":
    main()
