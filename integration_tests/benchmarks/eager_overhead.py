"""What the dynamic model costs in eager PyTorch where it cannot save anything, and where it saves everything.

    python integration_tests/benchmarks/eager_overhead.py [--models resnet50 ...] [--batches 1 8 64] [--threads 1]
        [--rounds 15] [--size 224] [--json FILE]

Random weights, seed 0. Two comparisons, each interleaved in one run, medians with quartiles:
- nothing exits: four exits with linear heads are on, with thresholds that no row passes, against the static model;
- all leave at the saver (resnet18 as saver), against the saver alone.
"""

import argparse
import json
import os
from pathlib import Path

import timm
import torch
from torch import nn

from dynamic_exit.cost import measure_latency, node_macs
from dynamic_exit.graph import Classifier, capture, find_cuts, split
from dynamic_exit.runtime.model import DynamicExitModel


class Head(nn.Module):
    """Global pooling and one linear layer, for feature maps and token sequences."""

    def __init__(self, shape: tuple[int, ...], classes: int):
        super().__init__()
        self.is_map = len(shape) == 3
        self.linear = nn.Linear(shape[0] if self.is_map else shape[-1], classes)

    def forward(self, hidden):
        return self.linear(hidden.mean((2, 3)) if self.is_map else hidden.mean(1))


def main() -> None:
    arguments = _arguments()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    rows = []
    for name in arguments.models:
        for row in measure(name, arguments):
            rows.append(row)
            print(
                f"{row['model']:24} batch {row['batch']:3}  {row['case']:14} {row['ratio']:.3f}x  "
                f"({row['dynamic_ms']:.2f} against {row['static_ms']:.2f} ms a sample, quartiles "
                f"{row['dynamic_quartiles_ms']} and {row['static_quartiles_ms']}, {row['rounds']} rounds)",
                flush=True,
            )
    if arguments.json:
        settings = {"threads": arguments.threads, "torch": torch.__version__, "load": os.getloadavg()}
        Path(arguments.json).write_text(json.dumps({**settings, "rows": rows}, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["resnet50", "vit_small_patch16_224"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--json")
    return parser.parse_args()


def measure(name: str, arguments: argparse.Namespace):
    """Yield one row for each batch size and case."""
    size = {"img_size": arguments.size} if "vit" in name else {}
    model = timm.create_model(name, **size).eval()
    saver = timm.create_model("resnet18").eval()
    example = (torch.randn(2, 3, arguments.size, arguments.size),)
    program = capture(Classifier(model), example)
    cuts = find_cuts(program, node_macs(program, example))
    chosen = [min(cuts, key=lambda cut, at=at: abs(cut.share - at)) for at in (0.2, 0.4, 0.6, 0.8)]
    exits = {cut.name: (place, Head(cut.shape, program.classes)) for place, cut in enumerate(chosen)}
    dynamic = DynamicExitModel(
        split(program, chosen), input_names=program.input_names, savers={"saver": saver}, exits=exits
    )
    off, never, always = float("inf"), 2.0, float("-inf")
    cases = {
        "nothing exits": ([off] + [never] * 4, model),
        "all at saver": ([always] + [never] * 4, saver),
    }
    for batch in arguments.batches:
        x = torch.randn(batch, 3, arguments.size, arguments.size)
        for case, (thresholds, static) in cases.items():
            dynamic.set_thresholds(thresholds)
            found = measure_latency(
                {"static": lambda: static(x), "dynamic": lambda: dynamic(x)},  # noqa: B023
                batch=batch, rounds=arguments.rounds, warmup=2, time_limit=150,
            )  # fmt: skip
            plain, ours = found["static"], found["dynamic"]
            yield {
                "model": name,
                "batch": batch,
                "case": case,
                "ratio": ours.median / plain.median,
                "static_ms": plain.median * 1e3,
                "dynamic_ms": ours.median * 1e3,
                "static_quartiles_ms": [round(plain.low * 1e3, 2), round(plain.high * 1e3, 2)],
                "dynamic_quartiles_ms": [round(ours.low * 1e3, 2), round(ours.high * 1e3, 2)],
                "rounds": ours.rounds,
            }


if __name__ == "__main__":
    main()
