"""The bars on CIFAR-10: `python cifar10.py savers|exits|both [--records DIR]`, in float, costs in multiply-adds.

Search on one random half of `dev`, report on the other, both ways round: by what the one half is easier, the other is
harder, and over both it cancels. Mean over draws. savers: chains of up to three savers with fused evidence, against
TinySaver's single one; up to two against all chains with all thresholds. exits: the recipe's exits alone, trained on
`train`, and what they save at half a point measured. both: savers alone against savers and exits, at equal measured
accuracy. --records keeps what was run in a folder, so that a second call neither trains nor infers; --set key=value
changes the recipe.
"""

import argparse
import itertools
import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
import yaml
from tuning_baselines import best_single_saver

from dynamic_exit.chain.evaluation import Evaluation, evaluate
from dynamic_exit.chain.thresholds import Configuration
from dynamic_exit.core.user_code import load_function
from dynamic_exit.cost import ChainCost, count_macs
from dynamic_exit.onnx.export import export_part
from dynamic_exit.onnx.session import open_session
from dynamic_exit.passes.early_exit import ExitTraining, FrozenBackbone, TrainingSamples, attach_exits
from dynamic_exit.pipeline.backbone import cut_backbone
from dynamic_exit.points.goal import Goal
from dynamic_exit.recipe import Recipe, read_recipe
from dynamic_exit.records import Records, StageTable
from dynamic_exit.runtime.model import DynamicExitModel
from dynamic_exit.runtime.recorder import make_records
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.sources.models.loading import load_model
from dynamic_exit.targets.measure import Variant, answer
from dynamic_exit.tuning.optimizer import optimize

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "cifar10_resnet56.yaml"
DROPS = (0.0, 0.005, 0.01)
GOALS = [Goal(max_accuracy_drop=drop) for drop in DROPS]
# more goals than asked for, to read off costs between them; all ways have the same, as goals share a correction
MANY = np.linspace(0, 0.02, 9).tolist()
MANY_GOALS = [Goal(max_accuracy_drop=drop) for drop in MANY]
# as the recipe says
SAVERS = 3
Find = Callable[[Records, int], list[Configuration]]


def cached(folder: Path | None, name: str, make: Callable[[], Records]) -> Records:
    """Records from ``folder / name.npz``, made if they are not there."""
    if folder is None:
        return make()
    path = folder / f"{name}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        make().write(path)
    return Records.read(path)


@torch.no_grad()
def saver_records(recipe: Recipe) -> Records:
    """Records of every candidate and the backbone on the whole of `dev`."""
    inputs, labels = load_function(recipe.data.path)("dev")
    sources = {source.stage_name: source for source in recipe.dynamic_exit.tiny_saver.candidates}
    logits, costs = {}, {}
    for name, source in [*sources.items(), ("final", recipe.model)]:
        model, example = load_model(source), torch.from_numpy(inputs[:2])
        session = open_session(export_part(name, model, ("x",), "logits", (example,)).proto, threads=1)
        logits[name] = answer(Variant(session), {"x": inputs}, 0)[0]
        costs[name] = count_macs(model, (example,))
        print(
            f"{name:14} {costs[name] / 1e6:6.1f} M, accuracy {(logits[name].argmax(1) == labels).mean():.2%}",
            flush=True,
        )
    names = [*sorted(sources, key=costs.__getitem__), "final"]
    return Records.from_logits(
        labels,
        StageTable.of(
            names,
            ["saver"] * len(sources) + ["final"],
            [-1] * len(sources) + [0],
            [costs[name] for name in names[:-1]] + [0.0],
            [0.0] * len(sources) + [costs["final"]],
        ),
        [logits[name] for name in names],
        k=10,
    )


def exit_records(recipe: Recipe, samples: int) -> Records:
    """Records of all exits on the whole of `dev`, trained on the first samples of `train` as the recipe says."""
    load = load_function(recipe.data.path)
    images, labels = (array[:samples] for array in load("train"))
    inputs, truth = load("dev")
    stanza = recipe.dynamic_exit.early_exit
    backbone = cut_backbone(load_model(recipe.model), {"x": torch.from_numpy(inputs[:2])}, stanza)
    macs = np.cumsum([count_macs(segment, segment.example_inputs) for segment in backbone.segments]).tolist()
    exits = attach_exits(
        FrozenBackbone(backbone.segments, backbone.cuts, backbone.classes, macs=macs[-1]),
        TrainingSamples({backbone.input_names[0]: torch.from_numpy(images)}, torch.from_numpy(labels)),
        ExitTraining(stanza, recipe.seed),
    )
    following = {name: backbone.segments[index + 1].example_inputs for name, (index, _) in exits.items()}
    return make_records(
        DynamicExitModel(backbone.segments, input_names=backbone.input_names, exits=exits),
        [inputs],
        truth,
        ChainCost(
            {name: count_macs(head, following[name][:1]) for name, (_, head) in exits.items()} | {"final": 0.0},
            {name: macs[index] for name, (index, _) in exits.items()} | {"final": macs[-1]},
        ),
        {name: backbone.cuts[index].index for name, (index, _) in exits.items()} | {"final": backbone.depth},
    )


def halves(records: Records, draw: int) -> tuple[Records, Records]:
    """Two disjoint halves, in an order that the draw decides."""
    order = np.random.default_rng(draw).permutation(len(records))
    middle = len(order) // 2
    return records.take(order[:middle]), records.take(order[middle:])


def ours(
    records: Records, draw: int, fuse: str = "mean", goals: Sequence[Goal] = GOALS, max_savers: int = SAVERS
) -> list[Configuration]:
    """What ships, one configuration per allowed drop."""
    return optimize(records, goals, SearchOptions(fuse=fuse, max_savers=max_savers, seed=draw))


def single_saver(records: Records, draw: int) -> list[Configuration]:
    """TinySaver's: the saver that saves most at matched accuracy, its threshold then set for each allowed drop."""
    ((chosen, _),) = best_single_saver(records, 0.0)
    alone = records.select([records.stages[chosen]])
    pairs = [best_single_saver(alone, drop) for drop in DROPS]
    return [Configuration(tuple((alone.stages[stage], at) for stage, at in pair)) for pair in pairs]


def cheapest_of_all(records: Records, drops: Sequence[float] = DROPS) -> list[float]:
    """For each drop the cost ratio of the best of all chains of up to two savers, at all thresholds, evidence fused."""
    samples, final = len(records), records.baseline_cost
    dense = np.zeros((len(records.stages), samples, 10), np.float32)
    np.put_along_axis(dense, records.topk_classes, records.topk_probabilities, axis=2)
    needs = (dense[-1].argmax(1) == records.truth).sum() - np.asarray(drops) * samples - 1e-9
    best = [final * samples] * len(drops)
    for chain in [*((s,) for s in range(len(dense) - 1)), *itertools.combinations(range(len(dense) - 1), 2)]:
        seen = [dense[list(chain[: place + 1])].mean(0) for place in range(len(chain))]
        seen.append(dense[[*chain, -1]].mean(0))
        right = [(each.argmax(1) == records.truth).astype(np.int64) for each in seen]
        sure = [each.max(1) for each in seen]
        first, second = right[0] - right[-1], right[-2] - right[-1]
        # rows: how many leave at the first saver; columns: how many of the others at the last saver
        order, late = np.argsort(-sure[0], kind="stable"), np.argsort(-sure[-2], kind="stable")
        rank = np.empty(samples, np.int64)
        rank[order] = np.arange(samples)
        leaving = np.flatnonzero(np.append(np.diff(sure[0][order]) < 0, True)) + 1
        leaving = np.append(0, leaving) if len(chain) > 1 else np.array([0])
        ends = np.append(np.diff(sure[-2][late]) < 0, True)
        stays = rank[late][None] >= leaving[:, None]
        gain = np.append(0, np.cumsum(first[order]))[leaving][:, None] + np.cumsum(stays * second[late], axis=1)
        more = np.cumsum(stays, axis=1)
        # nobody leaves at the last saver: it is paid for nothing, so only chains without it matter
        reached = np.where(ends, right[-1].sum() + gain, -samples)
        paid = records.own_cost[list(chain)]
        rest = samples - leaving[:, None]
        cost = samples * paid[0] + (rest * paid[1] if len(chain) > 1 else 0.0) + (rest - more) * final
        best = [min(least, cost[reached >= need].min(initial=np.inf)) for least, need in zip(best, needs, strict=True)]
    return [float(least / (final * samples)) for least in best]


def summary(name: str, figures: list[list[Evaluation]]) -> list[tuple[float, float]]:
    """Print and return (cost ratio, accuracy change in points) per allowed drop, mean over draws."""
    rows = np.array([[(e.cost_ratio, -100 * e.accuracy_drop) for e in each] for each in figures])
    mean, spread = rows.mean(0), rows.std(0)
    cells = [f"{1 / c:5.2f}x {a:+.3f} (sd {s[1]:.2f})" for (c, a), s in zip(mean, spread, strict=True)]
    print(f"{name:24} {'   '.join(cells)}", flush=True)
    return [tuple(row) for row in mean.tolist()]


def repeat(records: Records, ways: dict[str, Find], draws: int) -> dict[str, list[list[Evaluation]]]:
    """Search each way on one half and evaluate on the other, then the other way round, for every draw."""
    made: dict[str, list[list[Evaluation]]] = {name: [] for name in ways}
    for draw in range(draws):
        first, second = halves(records, draw)
        for searched, reported in ((first, second), (second, first)):
            for name, find in ways.items():
                made[name].append([evaluate(reported, found) for found in find(searched, draw)])
    return made


def savers(records: Records, draws: int) -> dict[str, list]:
    """Ours and the paper's; and how much dearer than the best of all chains ours is on the samples searched."""
    made = repeat(records, {"ours": ours, "single saver": single_saver}, draws)
    apart = []
    for draw in range(draws):
        searched, _ = halves(records, draw)
        plain = optimize(searched, GOALS, SearchOptions(fuse="mean", max_savers=2, seed=draw), crossfit=False)
        costs = [evaluate(searched, found).cost_ratio for found in plain]
        apart.append([cost / least - 1 for cost, least in zip(costs, cheapest_of_all(searched), strict=True)])
    figures: dict[str, list] = {name: summary(name, rows) for name, rows in made.items()}
    summary("ours, one way round", made["ours"][::2])
    figures["apart"] = np.max(apart, axis=0).tolist()
    shares = " / ".join(f"{share:+.2%}" for share in figures["apart"])
    print(f"dearer than the best of all chains at all thresholds, on the samples searched, at most: {shares}")
    return figures


def cost_at(rows: Sequence[tuple[float, float]], change: float) -> float:
    """Cost ratio at a measured change of accuracy in points, read off between the goals."""
    cost, points = np.array(rows)[::-1].T
    return float(np.interp(change, points, cost))


def exits(records: Records, draws: int) -> dict[str, list]:
    """Exits alone, with their own evidence and with that of all exits seen."""
    ways = {fuse: partial(ours, fuse=fuse, goals=MANY_GOALS) for fuse in ("none", "mean")}
    figures = {f"fuse {fuse}": summary(f"fuse {fuse}", rows) for fuse, rows in repeat(records, ways, draws).items()}
    for name, rows in figures.items():
        saved = " / ".join(f"{1 - cost:.1%}" for cost, _ in rows)
        print(f"{name}: saves {saved}; at -0.5 points measured {1 - cost_at(rows, -0.5):.1%}")
    return figures


def both(records: Records, draws: int, max_savers: int = SAVERS) -> dict[str, list]:
    """Savers alone against savers and exits."""
    alone = [stage for stage, kind in zip(records.stages, records.kinds, strict=True) if kind == "saver"]
    find = partial(ours, goals=MANY_GOALS, max_savers=max_savers)
    ways = {"savers": lambda part, draw: find(part.select(alone), draw), "savers and exits": find}
    found = repeat(records, ways, draws)
    figures = {name: summary(name, rows) for name, rows in found.items()}
    reached = [figures["savers and exits"][MANY.index(drop)] for drop in DROPS]
    together = [cost / cost_at(figures["savers"], change) - 1 for cost, change in reached]
    print(f"savers and exits cost at equal measured accuracy: {' / '.join(f'{share:+.1%}' for share in together)}")
    return {**figures, "together": together}


def load_records(what: str, folder: Path | None, recipe: Recipe, samples: int) -> Records:
    """The records that a benchmark needs."""
    makers = {"savers": lambda: saver_records(recipe), "exits": lambda: exit_records(recipe, samples)}
    wanted = ["savers", "exits"] if what == "both" else [what]
    parts = [cached(folder, name, makers[name]) for name in wanted]
    return parts[0] if len(parts) == 1 else Records.join(parts, along="stages")


def main() -> None:
    """Run one benchmark."""
    logging.basicConfig(format="  %(message)s", stream=sys.stdout)
    logging.getLogger("dynamic_exit").setLevel(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("savers", "exits", "both"))
    parser.add_argument("--records", type=Path, help="folder that keeps the records")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--max-savers", type=int, default=SAVERS, help="savers in a chain at most, for both")
    parser.add_argument("--samples", type=int, default=50_000, help="training images for exits")
    parser.add_argument("--set", action="append", default=[], help="key=value of the recipe")
    arguments = parser.parse_args()
    overrides = {key: yaml.safe_load(value) for key, value in (pair.split("=", 1) for pair in arguments.set)}
    records = load_records(arguments.what, arguments.records, read_recipe(RECIPE, overrides), arguments.samples)
    allowed = DROPS if arguments.what == "savers" else MANY
    print(f"{'':24} backbone cost / mean cost and accuracy change in points, at {allowed} allowed")
    what = {"savers": savers, "exits": exits, "both": partial(both, max_savers=arguments.max_savers)}
    what[arguments.what](records, arguments.draws)


if __name__ == "__main__":
    main()
