"""Does tuning keep what it says on samples it has not seen: the optimism of the search, and the guarantee."""

import numpy as np
from tuning_data import imagenet, synthetic

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.guarantee import BettingTest, Losses, make_test_sequence
from dynamic_exit.points.goal import Goal
from dynamic_exit.records import Records
from dynamic_exit.records.risk import parse_risk
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.search.solver import Search
from dynamic_exit.tuning.optimism import estimate_optimism
from dynamic_exit.tuning.optimizer import optimize

SAVERS = {
    "A": ["mobilenetV2_keras", "resnet18", "densenet169", "resnet50"],
    "B": ["squeezenet1_1", "resnet34", "densenet201", "resnet101"],
}


def overfitting(draws: int, seed: int, only: str | None = None) -> None:
    """2,500 search samples, 0.5 points allowed; the drop on all others, and the saving against a plain search.

    The plain search is forced to the same mean drop by lowering its allowance.
    """
    cases = {
        f"imagenet-{name}-{fuse}": (imagenet("resnet152").select(savers), fuse)
        for name, savers in SAVERS.items()
        for fuse in ("mean", "none")
    }
    cases["synthetic-9-exits"] = (synthetic(50_000, positions=9, heads=1, seed=seed), "none")
    lowered = np.arange(0.006, -0.0061, -0.001)
    print(f"{'case':22} {'drop':>14} {'saving':>8} {'plain drop':>11} {'plain saving, same drop':>24} {'share':>6}")
    for case, (records, fuse) in cases.items():
        if only is not None and only not in case:
            continue
        figures = []
        for draw in range(draws):
            order = np.random.default_rng([seed, draw]).permutation(len(records))
            search, rest = records.take(order[:2500]), records.take(order[2500:])
            found = optimize(search, [Goal(max_accuracy_drop=0.005)], SearchOptions(fuse=fuse, seed=draw))
            plain = Search(search, SearchOptions(fuse=fuse, seed=draw))
            for best in plain.run([Goal(max_accuracy_drop=float(drop)) for drop in lowered]):
                # a goal that nothing meets leaves the backbone alone
                found.append(plain.configuration(best) if best is not None else type(found[0])((), fuse))
            figures.append([(100 * e.accuracy_drop, 1 - e.cost_ratio) for e in (evaluate(rest, f) for f in found)])
        figures = np.array(figures)
        mean, error = figures.mean(axis=0), figures.std(axis=0) / np.sqrt(draws)
        same = np.interp(mean[0, 0], mean[1:, 0][::-1], mean[1:, 1][::-1])
        print(
            f"{case:22} {mean[0, 0]:6.3f} +- {error[0, 0]:.3f} {mean[0, 1]:8.4f} {mean[2, 0]:11.3f} {same:24.4f} "
            f"{mean[0, 1] / same:6.3f}",
            flush=True,
        )


def guarantees(draws: int, seed: int, sets: int = 8, risk: str = "accuracy") -> None:
    """Random calibration samples of ImageNet: how often a promise is broken, and what it costs.

    Paths come from `sets` search sets of 5,000 images; calibration samples are drawn from the other 45,000, and the
    true drop, or increase of risk, is that of all images then left.
    """
    records = imagenet("resnet152")
    records = records.with_risk(parse_risk(risk, records.classes).fit(records))
    print(" samples  allowed     P  promised   broken   bound  saving   plain share")
    for samples in (5_000, 25_000):
        for drop in (0.005, 0.01):
            results: dict[float, list[tuple[bool, bool, float, float]]] = {0.9: [], 0.95: []}
            for which in range(sets):
                _draw_set(records, samples, drop, draws // sets, [seed, which], results)
            for probability, rows in results.items():
                made, broken, saving, plain = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
                rate, allowed = broken.mean(), 1 - probability
                bound = allowed + 2 * np.sqrt(allowed * probability / len(rows))
                print(
                    f"{samples:8d} {100 * drop:7.1f}p {probability:5.2f} {made.mean():9.3f} {rate:8.4f} {bound:7.4f} "
                    f"{saving.mean():7.4f} {plain.mean():7.4f} {saving.mean() / plain.mean():.3f}",
                    flush=True,
                )


def _draw_set(
    records: Records, samples: int, drop: float, draws: int, seed: list[int], results: dict[float, list]
) -> None:
    random = np.random.default_rng(seed)
    order = random.permutation(len(records))
    search_records, others = records.take(order[:5000]), records.take(order[5000:])
    # combined answers are rarely the backbone's own, which is all that agreement asks for
    rule = "mean" if records.risk.needs_labels else "none"
    goals, options = [Goal(max_accuracy_drop=drop)], SearchOptions(rule, 2, seed[0])
    (plain,) = optimize(search_records, goals, options)
    search = Search(search_records, options)
    optimism = estimate_optimism(search, goals)
    path, expected = make_test_sequence(search, [plain], samples, goals, optimism)
    evaluations = [evaluate(others, configuration) for configuration in path]
    differences = np.stack([e.losses for e in evaluations])
    scale = others.risk.largest
    plain_saving = 1 - evaluate(others, plain).cost_ratio
    for _ in range(draws):
        order = random.permutation(len(others))
        inside = differences[:, order[:samples]]
        outside = differences[:, order[samples:]]
        for probability, rows in results.items():
            bet = BettingTest(drop / scale, probability, samples, expected.discordance)
            passed = 0
            while passed < len(path) and bet.passes(Losses.of(inside[passed] / scale)):
                passed += 1
            broken = passed > 0 and outside[passed - 1].mean() > drop
            saving = 1 - evaluations[passed - 1].cost_ratio if passed else 0.0
            rows.append((passed > 0, broken, saving, plain_saving))
