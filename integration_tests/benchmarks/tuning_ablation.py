"""What each constant and each mechanism of the search is worth: `python tuning_ablation.py [WORD ...] [--cifar10 NPZ]`.

Every number that `search/` chooses is halved and doubled, every mechanism is left out, one at a time; each in a process
of its own, whose import of the package changes the source. WORD: only variants whose name holds one of these.
Costs are those on the samples searched, at exactly the goals asked for, so that nothing but the search makes a
difference; they are compared with those of the search as it is.

imagenet: resnet152, 25,000 samples, mean of up to two savers and product of up to four, shortlisted as tunings do.
cifar10: records of savers, see `cifar10.py savers`; left out without a file. synthetic: exits of 400, 4,000 and 20,000
samples, one seed each. budget: right answers per 10,000 at a quarter, half and three quarters of the cost. front: mean
cost of 20 points of 20,000 samples at even accuracies. brute: shares of 300 small instances solved as by brute force.
"""

import argparse
import ast
import importlib.abc
import importlib.machinery
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
ROOM = "dynamic_exit.search"
FOLDER = ROOT / "plugin" / "dynamic_exit" / "search"
DROPS = (0.0, 0.005, 0.01)
# per mechanism: the function that is replaced, and what takes its place
MECHANISMS = {
    "screening on few samples": ("beam.Beam._evaluate", "EVALUATE_ALL"),
    "shortlist of savers": ("beam.shortlist", "lambda records, goals, options: records"),
    "trade-off path": ("solver.Search._has_path", "False"),
    "all chains where they are few": ("solver.Search._all_chains", "None"),
    "exchanges of stages behind the path": ("solver.Search._exchange", "lambda self, target, best: best"),
    "starts that lie apart": ("thresholds.spread", "lambda chain, target, best, *_: best"),
    "moves of two thresholds": ("thresholds.polish", "lambda chain, target, start: start"),
    "points between those of the path": ("solver.Search._fill_gaps", "lambda self, found, points: found"),
    "solutions of other goals": ("solver.Search.run", "RUN_ALONE"),
}


def _evaluate_all(self: object, chains: set, targets: list, scores: dict) -> set:
    from dynamic_exit.search.beam import fit_all

    for stages in sorted(chains):
        scores[stages] = fit_all(self.levels[-1], stages, targets[-1])
    return chains


def _run_alone(self: object, goals: list) -> list:
    from dynamic_exit.search.targets import count_target

    return self._fit([count_target(self.outcomes, goal) for goal in goals], self._proposals(goals))


class Constants(ast.NodeVisitor):
    """The numbers of a module of the search that somebody chose, by the name they have there.

    A number counts that is not 0, 1 or -1 and lies in a constant of the module or in a default of a class's field.
    """

    def __init__(self, module: str) -> None:
        self.module, self.found = module, {}

    def _add(self, target: ast.expr, value: ast.expr | None) -> None:
        if isinstance(target, ast.Name) and value is not None:
            numbers = [n.value for n in ast.walk(value) if isinstance(n, ast.Constant)]
            if any(isinstance(n, int | float) and abs(n) not in (0, 1) for n in numbers):
                self.found[f"{self.module}.{target.id}"] = value

    def visit_Assign(self, node: ast.Assign) -> None:
        self._add(node.targets[0], node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._add(node.target, node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Numbers within functions have no name."""


def constants() -> dict[str, ast.expr]:
    """Return the expressions of all constants, by module and name."""
    found = {}
    for path in sorted(FOLDER.glob("*.py")):
        visitor = Constants(path.stem)
        visitor.visit(ast.parse(path.read_text(encoding="utf-8")))
        found.update(visitor.found)
    return found


class Scaled(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """Imports one module with one constant times a factor."""

    def __init__(self, name: str, factor: float) -> None:
        module, self.constant = name.split(".")
        self.module, self.factor = f"{ROOM}.{module}", factor
        super().__init__(self.module, str(FOLDER / f"{module}.py"))

    def find_spec(self, fullname: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.module:
            return None
        return importlib.util.spec_from_file_location(fullname, self.path, loader=self)

    def get_code(self, fullname: str) -> object:
        tree = ast.parse(Path(self.path).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign | ast.AnnAssign):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                if isinstance(target, ast.Name) and target.id == self.constant:
                    node.value = ast.parse(f"_times({ast.unparse(node.value)}, {self.factor})", mode="eval").body
        define = "_times = lambda v, f: tuple(_times(e, f) for e in v) if isinstance(v, tuple) else type(v)(v * f)"
        tree.body.insert(0, ast.parse(define).body[0])
        # docstrings and imports from the future must stay first, but nothing here is asked for either
        return compile(ast.fix_missing_locations(tree), self.path, "exec")


def without(mechanism: str) -> None:
    """Take a mechanism out of the package that is imported here."""
    import importlib

    where, what = MECHANISMS[mechanism]
    new = {"EVALUATE_ALL": _evaluate_all, "RUN_ALONE": _run_alone}.get(what) or eval(what)
    module, *owner, name = where.split(".")
    loaded: ModuleType = importlib.import_module(f"{ROOM}.{module}")
    if owner:
        owned = getattr(loaded, owner[0])
        assert hasattr(owned, name), f"{where} is not there"
        setattr(owned, name, new if callable(new) else property(lambda self: new))
        return
    old = getattr(loaded, name)
    import dynamic_exit.tuning.optimizer  # noqa: F401

    for each in [m for key, m in sys.modules.items() if key.startswith("dynamic_exit")]:
        if vars(each).get(name) is old:
            setattr(each, name, new)


def measure(cifar10: Path | None) -> dict[str, float]:
    """Return the figures of the package as it is imported here, and the processor time of all searches together."""
    from tuning_data import imagenet, synthetic

    from dynamic_exit.chain.evidence import Evidence
    from dynamic_exit.points.goal import Goal
    from dynamic_exit.records import Records
    from dynamic_exit.search.options import SearchOptions

    found: dict[str, list[float]] = {}
    drops = [Goal(max_accuracy_drop=drop) for drop in DROPS]
    half = imagenet("resnet152", np.sort(np.random.default_rng(0).permutation(50_000)[:25_000]))
    cases = [
        ("imagenet", half, SearchOptions(fuse="mean", max_savers=2)),
        ("imagenet", half, SearchOptions(fuse=Evidence("product", "margin"), max_savers=4)),
    ]
    if cifar10 is not None:
        every = Records.read(cifar10)
        order = np.random.default_rng(0).permutation(len(every))
        halves = np.array_split(order, 2)
        cases += [("cifar10", every.take(np.sort(rows)), SearchOptions(fuse="mean")) for rows in halves]
    made = {size: synthetic(size, heads=3, seed=seed) for seed, size in enumerate((400, 4_000, 20_000))}
    cases += [("synthetic", records, SearchOptions(fuse="none")) for records in made.values()]
    cases += [("synthetic", synthetic(2_000, 3, 2, seed=3, kept=5), SearchOptions(fuse="mean"))]
    taken = [_costs(found, name, records, drops, options) for name, records, options in cases]
    budgets = [Goal(budget=budget) for budget in (0.25, 0.5, 0.75)]
    for name, records, options in (cases[0], *cases[-4:-1]):
        taken.append(_answers(found, f"budget {name}", records, budgets, options))
    taken.append(_front(found, made[20_000]))
    taken.append(_brute(found))
    return {name: float(np.mean(values)) for name, values in found.items()} | {"seconds": sum(taken)}


def _timed(call: Callable[[], object]) -> tuple[object, float]:
    start = time.process_time()
    return call(), time.process_time() - start


def _costs(found: dict, name: str, records: object, goals: list, options: object) -> float:
    from dynamic_exit.chain.evaluation import evaluate
    from dynamic_exit.tuning.optimizer import optimize

    made, seconds = _timed(lambda: optimize(records, goals, options, crossfit=False))
    for drop, each in zip(DROPS, made, strict=True):
        found.setdefault(f"{name} {100 * drop:g}", []).append(100 * np.log(evaluate(records, each).cost_ratio))
    return seconds


def _answers(found: dict, name: str, records: object, goals: list, options: object) -> float:
    from dynamic_exit.chain.evaluation import evaluate
    from dynamic_exit.tuning.optimizer import optimize

    made, seconds = _timed(lambda: optimize(records, goals, options, crossfit=False))
    found.setdefault(name, []).append(float(np.mean([1e4 * evaluate(records, each).accuracy for each in made])))
    return seconds


def _front(found: dict, records: object) -> float:
    from dynamic_exit.chain.evaluation import evaluate
    from dynamic_exit.search.options import SearchOptions
    from dynamic_exit.tuning.optimizer import front

    made, seconds = _timed(lambda: front(records, 20, SearchOptions(fuse="none")))
    figures = [evaluate(records, each) for each in made]
    wanted = figures[-1].baseline_accuracy - np.linspace(0.0, 0.05, 11)
    least = [min(e.cost_ratio for e in figures if e.accuracy >= w - 1e-12) for w in wanted]
    found["front"] = list(100 * np.log(least))
    return seconds


def _brute(found: dict) -> float:
    from dynamic_exit.chain.evaluation import evaluate
    from dynamic_exit.points.goal import Goal
    from dynamic_exit.search.options import SearchOptions
    from dynamic_exit.tuning.optimizer import optimize

    sys.path.insert(0, str(ROOT / "tests" / "helpers"))
    from instances import brute_force, random_records

    total = 0.0
    for seed in range(300):
        random, stages = np.random.default_rng(seed), 1 + seed % 3
        samples = int(random.integers(2, 41 if stages < 3 else 25))
        records = random_records(seed, samples, stages, ties=seed % 4 == 0)
        correct, cost = brute_force(records)
        drop = float(random.choice([0.0, 0.05, 0.1, 0.3]))
        needed = np.ceil((records.reference_worth.mean() - drop) * samples - 1e-9)
        goal = Goal(max_accuracy_drop=drop)
        (made,), seconds = _timed(
            lambda records=records, goal=goal: optimize(records, [goal], SearchOptions(fuse="none"), crossfit=False)
        )
        best, total = cost[correct >= needed].min(), total + seconds
        found.setdefault("brute", []).append(100.0 * (evaluate(records, made).cost <= best * (1 + 1e-9)))
    return total


def variants() -> Iterator[tuple[str, list[str]]]:
    """Yield the names of all variants, the search as it is first, and what a process of each is asked for."""
    yield "as it is", []
    for mechanism in MECHANISMS:
        yield f"without {mechanism}", ["--without", mechanism]
    for name, value in constants().items():
        for factor in ("0.5", "2"):
            yield f"{name} = {ast.unparse(value)}, times {factor}", ["--scaled", name, factor]


def main() -> None:
    """Measure all variants, or the one that a process is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="only variants whose name holds one of these; all if none")
    parser.add_argument("--cifar10", type=Path, help="records of savers for CIFAR-10")
    parser.add_argument("--without", help=argparse.SUPPRESS)
    parser.add_argument("--scaled", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        if arguments.scaled:
            sys.meta_path.insert(0, Scaled(arguments.scaled[0], float(arguments.scaled[1])))
        if arguments.without:
            without(arguments.without)
        print(json.dumps(measure(arguments.cifar10)))
        return
    common = ["--cifar10", str(arguments.cifar10)] if arguments.cifar10 else []
    plain: dict[str, float] = {}
    for name, asked in variants():
        if asked and arguments.words and not any(word in name for word in arguments.words):
            continue
        command = [sys.executable, __file__, "--one", *common, *asked]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"{name:70} fails: {done.stderr.strip().splitlines()[-1]}", flush=True)
            continue
        figures = json.loads(done.stdout.splitlines()[-1])
        if not plain:
            plain = figures
            print("cost in % of the search as it is (budgets: more right answers of 10,000; brute: % of 300 equal)")
            print(f"{'':70} " + " ".join(f"{key:>12.12}" for key in figures))
        shown = {key: value if key in ("brute", "seconds") else value - plain[key] for key, value in figures.items()}
        print(f"{name:70} " + " ".join(f"{value:12.3f}" for value in shown.values()), flush=True)


if __name__ == "__main__":
    main()
