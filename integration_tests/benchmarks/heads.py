"""What training exit heads costs: all positions of CIFAR-10 resnet56, four kinds of heads, with and without a cache.

    DYNAMIC_EXIT_DATA=... python integration_tests/benchmarks/heads.py [--samples 50000] [--epochs 10] [--threads 2]
        [--heads linear mlp conv attention] [--live] [--views 1] [--set key=value ...]

Bars: 10 epochs in under 15 minutes on 2 cores; memory under 6 GB at its peak; 20 epochs with cached features at least 4
times faster than without. With --live one epoch without a cache is measured too, beside which the other 19 would take
as long again. Beside the time on the clock stands that of the processors, which a busy machine does not disturb.
Accuracies are those on `dev`, which neither backbone nor heads have seen, where each head answers alone.
"""

import argparse
import logging
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch
import yaml

from dynamic_exit.cost import node_macs
from dynamic_exit.data.loading import load_splits
from dynamic_exit.data.split import UNNAMED
from dynamic_exit.graph import Classifier, capture, find_cuts, split
from dynamic_exit.passes.early_exit import (
    EarlyExitStanza,
    ExitTraining,
    FrozenBackbone,
    TrainingSamples,
    attach_exits,
    cheapest_head,
    choose_cuts,
)
from dynamic_exit.recipe import read_recipe
from dynamic_exit.sources.models.loading import load_model

RECIPE = Path(__file__).resolve().parents[2] / "recipes/cifar10_resnet56.yaml"


def main() -> None:
    logging.basicConfig(format="  %(asctime)s  %(message)s", stream=sys.stdout)
    logging.getLogger("dynamic_exit").setLevel(logging.INFO)
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    recipe = read_recipe(RECIPE)
    splits = load_splits(recipe.data, recipe.seed)
    train = splits["train"]
    inputs, labels = train.tensors[UNNAMED][: arguments.samples], torch.from_numpy(train.labels[: arguments.samples])
    classifier = Classifier(load_model(recipe.model)).eval()
    program = capture(classifier, (inputs[:2],))
    macs = node_macs(program.graph_module, program.example_inputs)
    total = sum(macs.values())
    training = {
        "epochs": arguments.epochs, "batch_size": 256, "views": arguments.views,
        "augment": "flip_crop" if arguments.views > 1 else "none",
    }  # fmt: skip
    training |= dict(_pair(each) for each in arguments.set)
    stanza = EarlyExitStanza(positions="all", heads=arguments.heads, training=training)
    cuts = choose_cuts(find_cuts(program, macs), "all", 0, cheapest_head(stanza.entries, program.classes, total))
    segments = split(program, cuts)
    print(f"{len(cuts)} positions, {len(stanza.entries)} heads at each, {len(labels)} samples, {stanza.training}")

    def trained(stanza: EarlyExitStanza):
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            found = attach_exits(
                FrozenBackbone(segments, cuts, program.classes, macs=total),
                TrainingSamples({program.input_names[0]: inputs}, labels),
                ExitTraining(stanza, recipe.seed, workdir=folder),
            )
        return found, time.perf_counter() - started

    exits, seconds = trained(stanza)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(f"with a cache: {seconds:.0f} s for {arguments.epochs} epochs, {peak:.2f} GB of memory at its peak")
    if arguments.live:
        once = stanza.training.model_copy(update={"cache": "none", "epochs": 1})
        live = trained(stanza.model_copy(update={"training": once}))[1]
        print(f"without: {live:.0f} s an epoch")
    _accuracies(segments, exits, cuts, splits)


@torch.no_grad()
def _accuracies(segments, exits, cuts, splits) -> None:
    right = dict.fromkeys(exits, 0)
    count = 0
    for part in ("calibration", "test"):
        labels = torch.from_numpy(splits[part].labels)
        count += len(labels)
        for rows in torch.arange(len(labels)).split(250):
            hidden = splits[part].tensors[UNNAMED][rows]
            for index, segment in enumerate(segments):
                hidden = segment(hidden)
                for name, (place, head) in exits.items():
                    if place == index:
                        right[name] += int((head(hidden).argmax(1) == labels[rows]).sum())
    kinds = sorted({name.rpartition(":")[2] for name in exits})
    print(f"{'accuracy on dev':20} " + " ".join(f"{kind:>10}" for kind in kinds))
    for cut in cuts:
        figures = [right.get(f"{cut.name}:{kind}", 0) / count for kind in kinds]
        print(f"{cut.name:12} {cut.share:6.1%}  " + " ".join(f"{figure:10.1%}" for figure in figures))


def _pair(text: str):
    key, _, value = text.partition("=")
    return key, yaml.safe_load(value)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--heads", nargs="+", default=["linear", "mlp", "conv", "attention"])
    parser.add_argument("--set", nargs="*", default=[], help="key=value of `training`")
    parser.add_argument("--live", action="store_true", help="measure an epoch without a cache too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
