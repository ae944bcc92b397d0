"""A small language model before a large one: `python llm_cascade.py FOLDER [--draws N] [--seed S]`.

FOLDER holds `llm_cascade.npz`: for each task, `TASK.p`, float32 (N,), the probability of "true" by a model of 8 billion
parameters, and `TASK.oracle`, bool (N,), the answer of one of 70 billion, which decides; calls cost 1 : 9. Thresholds
are searched on one random half of a task's questions for a disagreement of 0.5 % with the large model. The table shows,
on the other half and averaged over draws, the share of questions that the small model answers and on how many of all
questions, in percent, the answers differ from the large model's; first without, then with the correction for optimism
that `tune` makes.
"""

import argparse
from pathlib import Path

import numpy as np

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.chain.evidence import AUTO, Evidence
from dynamic_exit.chain.thresholds import Configuration
from dynamic_exit.points.goal import Goal
from dynamic_exit.records import Records
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.tuning.optimizer import optimize

TASKS = ("sst2", "imdb", "boolq", "arxiv", "mmlu")
COSTS = (1.0, 9.0)
GOAL = Goal(max_accuracy_drop=0.005)
EVIDENCE = {
    "one threshold": Evidence("none", "top1"),
    "learned": Evidence("none", "learned"),
    "auto": Evidence(AUTO, AUTO),
}


def records_of(probability: np.ndarray, decision: np.ndarray) -> Records:
    """Records whose labels are the large model's answers."""
    saver = np.stack([1 - probability, probability], axis=1)
    final = np.stack([~decision, decision], axis=1).astype(np.float32)
    # the more likely class first, class 0 among equals
    order = np.stack([np.argsort(-each, axis=1, kind="stable") for each in (saver, final)])
    sorted_shares = np.stack([np.take_along_axis(each, at, 1) for each, at in zip((saver, final), order, strict=True)])
    return Records(
        labels=decision.astype(np.int64),
        stages=("small", "large"),
        kinds=("saver", "final"),
        positions=np.array([-1, 0]),
        topk_classes=order.astype(np.int32),
        topk_probabilities=sorted_shares.astype(np.float32),
        own_cost=np.array([COSTS[0], 0.0]),
        prefix_cost=np.array([0.0, COSTS[1]]),
        cost_unit="macs",
    )


def figures(rest: Records, found: Configuration) -> tuple[float, float]:
    """Return the share that the small model answers and the share of other answers than the large model's, in %."""
    measured = evaluate(rest, found)
    return 100 * measured.exit_rates.get("small", 0.0), 100 * measured.accuracy_drop


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(f"{'task':6} {'confidence':14} answered and different, in %: without correction   with correction")
    with np.load(arguments.folder / "llm_cascade.npz") as data:
        tasks = {task: records_of(data[f"{task}.p"], data[f"{task}.oracle"]) for task in TASKS}
    for task, records in tasks.items():
        for name, fuse in EVIDENCE.items():
            rows = []
            for draw in range(arguments.draws):
                order = np.random.default_rng([arguments.seed, draw]).permutation(len(records))
                half, rest = (records.take(part) for part in np.array_split(order, 2))
                options = SearchOptions(fuse=fuse, seed=draw)
                rows.append([figures(rest, *optimize(half, [GOAL], options, crossfit=each)) for each in (False, True)])
            mean, spread = np.mean(rows, axis=0), np.std(rows, axis=0)
            cells = (f"{m[0]:6.1f} (sd {s[0]:.1f}), {m[1]:.2f}" for m, s in zip(mean, spread, strict=True))
            print(f"{task:6} {name:14} {'   '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
