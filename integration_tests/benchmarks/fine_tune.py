"""Does training a saver for its role pay: `python fine_tune.py [--images N] [--draws N] [--set key=value ...]`.

CIFAR-10, float, one thread: resnet8 as published and trained against resnet56. Search on one random half of `dev`,
report on the other, mean over draws. --set: options of the stanza, such as `--set loss=gatekeeper --set alpha=0.2`.
"""

import argparse
import time

import numpy as np
import torch
import yaml
from cifar10 import RECIPE, halves
from torch import Tensor, nn

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.core.batching import DEFAULT_BATCH_SIZE
from dynamic_exit.core.user_code import load_function
from dynamic_exit.cost import count_macs
from dynamic_exit.passes.tiny_saver import FineTuneStanza, TeacherSamples, fine_tune
from dynamic_exit.points.goal import Goal
from dynamic_exit.recipe import read_recipe
from dynamic_exit.records import Records, StageTable
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.sources.models.loading import load_model
from dynamic_exit.tuning.optimizer import optimize

AT = 0.005


@torch.no_grad()
def logits_of(model: nn.Module, inputs: Tensor) -> Tensor:
    """The logits of many samples."""
    return torch.cat([model(batch.float()) for batch in inputs.split(DEFAULT_BATCH_SIZE)])


def auroc(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Chance that a right answer is surer than a wrong one."""
    right = probabilities.argmax(1) == labels
    rank = np.empty(len(right))
    rank[np.argsort(probabilities.max(1), kind="stable")] = np.arange(1, len(right) + 1)
    count = right.sum()
    return float((rank[right].sum() - count * (count + 1) / 2) / (count * (len(right) - count)))


def at_equal_drop(records: Records, draws: int) -> tuple[float, float, float]:
    """Cost ratio and drop in points as shipped at 0.5 points, and the cost ratio where 0.5 points are really lost.

    The latter reads the mean curve of plain searches, so that two savers are compared at the same accuracy.
    """
    shipped, curves = [], []
    for draw in range(draws):
        searched, reported = halves(records, draw)
        (found,) = optimize(searched, [Goal(max_accuracy_drop=AT)], SearchOptions(fuse="mean", seed=draw))
        result = evaluate(reported, found)
        shipped.append((result.cost_ratio, 100 * result.accuracy_drop))
        goals = [Goal(max_accuracy_drop=drop) for drop in np.linspace(0, 2.5 * AT, 6)]
        plain = optimize(searched, goals, SearchOptions(fuse="mean", seed=draw), crossfit=False)
        curves.append([(e.accuracy_drop, e.cost_ratio) for e in (evaluate(reported, each) for each in plain)])
    drops, costs = np.mean(curves, axis=0).T
    return (*np.mean(shipped, axis=0), float(np.interp(AT, np.maximum.accumulate(drops), costs)))


def report(name: str, saver: Tensor, others: dict[str, Tensor], costs: dict[str, float], labels, draws: int) -> None:
    """Print one row: the saver alone, and both chains."""
    probabilities = torch.softmax(saver, dim=1).numpy()
    cells = [f"{name:9} {(probabilities.argmax(1) == labels).mean():8.2%} {auroc(probabilities, labels):6.4f}"]
    answers = {"resnet8": saver, **others}
    for stages in (("resnet8", "final"), ("resnet8", "resnet20", "final")):
        records = Records.from_logits(
            labels,
            StageTable.of(
                stages,
                ["saver"] * (len(stages) - 1) + ["final"],
                [-1] * (len(stages) - 1) + [0],
                [costs[stage] for stage in stages[:-1]] + [0.0],
                [0.0] * (len(stages) - 1) + [costs["final"]],
            ),
            [answers[stage].numpy() for stage in stages],
            k=10,
        )
        ratio, drop, equal = at_equal_drop(records, draws)
        cells.append(f"{1 / ratio:8.2f}x {-drop:+.2f}  {1 / equal:8.2f}x")
    print("   ".join(cells), flush=True)


def main() -> None:
    """Train and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chosen = {key: yaml.safe_load(value) for key, value in (each.split("=", 1) for each in arguments.set)}
    options = FineTuneStanza(**{"augment": "flip_crop", **chosen})
    recipe = read_recipe(RECIPE)
    read = load_function(recipe.data.path)
    sources = {each.stage_name: each for each in recipe.dynamic_exit.tiny_saver.candidates}
    models = {name: load_model(sources[name]) for name in ("resnet8", "resnet20")} | {"final": load_model(recipe.model)}
    images, labels = (torch.from_numpy(each[: arguments.images]) for each in read("train"))
    dev, truth = read("dev")
    dev = torch.from_numpy(dev)
    costs = {name: count_macs(model, (dev[:2],)) for name, model in models.items()}
    others = {name: logits_of(models[name], dev) for name in ("resnet20", "final")}
    print(f"{'':24}   {'resnet8 -> final':>27}   resnet8 -> resnet20 -> final")
    print("resnet8   accuracy  AUROC   " + 2 * "   saving, change   equal drop", flush=True)
    report("published", logits_of(models["resnet8"], dev), others, costs, truth, arguments.draws)
    teacher = logits_of(models["final"], images)
    started = time.process_time()
    tuned = fine_tune(models["resnet8"], TeacherSamples(images, labels, teacher), options, arguments.seed)
    spent = time.process_time() - started
    report("trained", logits_of(tuned, dev), others, costs, truth, arguments.draws)
    print(
        f"{options!r}\n{spent:.0f} s of one core for training on {len(images)} images, without the backbone's answers"
    )


if __name__ == "__main__":
    main()
