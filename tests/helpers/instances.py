import itertools

import numpy as np

from dynamic_exit.records import Records, StageTable

__all__ = ["brute_force", "exits", "random_records", "savers"]


def random_records(seed: int, samples: int, stages: int, classes: int = 4, ties: bool = False) -> Records:
    """Small records of savers and exits with any costs; confidences that come twice if `ties`."""
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=samples)
    kinds = sorted(random.choice(["exit", "saver"], size=stages), reverse=True)
    positions = [-1 if kind == "saver" else 0 for kind in kinds]
    for place in range(1, stages):
        if kinds[place - 1] == "exit":
            positions[place] = positions[place - 1] + int(random.random() < 0.7)
    logits = [
        strength * np.eye(classes)[labels] + random.standard_normal((samples, classes))
        for strength in [*np.sort(random.uniform(0.3, 2.5, size=stages)), 2.5]
    ]
    if ties:
        logits = [np.round(array) for array in logits]
    prefix = [0.0 if position < 0 else 0.1 + 0.8 * (position + 1) / (stages + 1) for position in positions]
    own = [random.uniform(0.01, 0.5) if position < 0 else random.uniform(0, 0.02) for position in positions]
    return Records.from_logits(
        labels,
        StageTable.of(
            [f"{kind}{place}" for place, kind in enumerate(kinds)] + ["final"],
            [*kinds, "final"],
            [*positions, stages + 1],
            [*own, 0],
            [*prefix, 1],
        ),
        logits,
        k=classes,
    )


def savers(seed: int, samples: int, count: int = 3, classes: int = 10) -> Records:
    """Savers of rising strength and cost."""
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=samples)
    hard = random.standard_normal((samples, 1))
    logits = [
        (strength - 1.2 * hard) * np.eye(classes)[labels] + 0.7 * random.standard_normal((samples, classes))
        for strength in np.linspace(1.5, 3.5, count + 1)
    ]
    names = [f"saver{place}" for place in range(count)] + ["final"]
    own = [*np.geomspace(0.03, 0.4, count), 0]
    return Records.from_logits(
        labels, StageTable.of(names, ["saver"] * count + ["final"], [-1] * count + [0], own, [0] * count + [1]), logits
    )


def exits(seed: int, samples: int, positions: int = 4, heads: int = 2) -> Records:
    """Exits of several heads at each position."""
    random = np.random.default_rng(seed)
    labels = random.integers(10, size=samples)
    hard = random.standard_normal((samples, 1))
    names, logits, own, prefix, places = [], [], [], [], []
    for position in range(positions + 1):
        for head in range(heads if position < positions else 1):
            strength = 1 + 2.5 * position / positions + 0.2 * head
            logits.append((strength - 1.2 * hard) * np.eye(10)[labels] + 0.7 * random.standard_normal((samples, 10)))
            names.append(f"exit{position}.{head}" if position < positions else "final")
            own.append(0.002 * (head + 1) if position < positions else 0)
            prefix.append((position + 1) / (positions + 1))
            places.append(position)
    return Records.from_logits(
        labels, StageTable.of(names, ["exit"] * (len(names) - 1) + ["final"], places, own, prefix), logits
    )


def brute_force(records: Records) -> tuple[np.ndarray, np.ndarray]:
    """Right answers and mean cost of every set of stages and every distinct combination of thresholds, fuse none."""
    truth, samples = records.truth, len(records)
    correct = records.topk_classes[:, :, 0] == truth
    sure = records.topk_probabilities[:, :, 0]
    final = len(records.stages) - 1
    corrects, costs = [], []
    for size in range(final + 1):
        for used in itertools.combinations(range(final), size):
            places = [int(records.positions[s]) for s in used if records.kinds[s] == "exit"]
            if len(set(places)) < len(places):
                continue
            # a threshold below all, and at every confidence: > is strict
            grids = [np.concatenate([[-1], np.unique(sure[s])]) for s in used]
            total_correct = np.zeros([len(grid) for grid in grids])
            total_cost, in_play = np.zeros_like(total_correct), np.ones((*total_correct.shape, samples), dtype=bool)
            paid = 0.0
            for axis, stage in enumerate(used):
                shape = [1] * size + [samples]
                shape[axis] = len(grids[axis])
                leaves = in_play & (sure[stage] > grids[axis][:, None]).reshape(shape)
                paid += records.own_cost[stage]
                total_correct += (leaves & correct[stage]).sum(axis=-1)
                total_cost += leaves.sum(axis=-1) * (paid + records.prefix_cost[stage])
                in_play &= ~leaves
            total_correct += (in_play & correct[final]).sum(axis=-1)
            total_cost += in_play.sum(axis=-1) * (paid + records.prefix_cost[final])
            corrects.append(total_correct.ravel())
            costs.append(total_cost.ravel() / samples)
    return np.concatenate(corrects), np.concatenate(costs)
