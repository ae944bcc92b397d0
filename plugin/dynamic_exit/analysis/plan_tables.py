"""What a plan holds, and the tables and lines that `dynamic-exit plan` prints of it."""

from collections.abc import Sequence
from typing import Any, TypedDict

from ..report.tables import Table


class HeadPlan(TypedDict):
    """A head that would be tried at a cut: its multiply-adds, also as a share of the backbone's."""

    head: str
    multiply_adds: float
    share: float


class PositionPlan(TypedDict):
    """A cut in use: its name, its index among all cuts, its shape, and the share of the backbone before it."""

    position: str
    cut: int
    shape: list[int | str]
    share: float
    heads: list[HeadPlan]


class CandidatePlan(TypedDict):
    """A candidate for a saver: its multiply-adds, also as a share of the backbone's, and the shapes of its inputs."""

    stage: str
    multiply_adds: float
    share: float
    inputs: dict[str, list[int]]


class BackbonePlan(TypedDict):
    """The pruned backbone; `given_multiply_adds` are those before pruning."""

    multiply_adds: float
    given_multiply_adds: float
    parameters: int
    classes: int
    inputs: dict[str, list[int]]
    cuts_found: int


class SkippedPlan(TypedDict):
    """A candidate that would not be tried, and why."""

    stage: str
    why: str


class StepPlan(TypedDict):
    """A step and about how many seconds it takes."""

    step: str
    seconds: float


class ChoicePlan(TypedDict):
    """One static choice."""

    pruning: str
    quantization: str


class StaticSearchPlan(TypedDict):
    """What a search over static choices comes to if none of them is skipped."""

    variants: int
    choices: list[ChoicePlan]
    steps: list[StepPlan]
    seconds_at_most: float


class UpgradePlan(TypedDict):
    """A backbone of `upgrade`: its multiply-adds, and those over the model's of today."""

    backbone: str
    multiply_adds: float
    ratio: float


class Plan(TypedDict):
    """What a recipe would run; see `plan`."""

    splits: dict[str, int]
    static: list[dict[str, Any]]
    quantization: list[str]
    backbone: BackbonePlan
    positions: list[PositionPlan]
    candidates: list[CandidatePlan]
    memory: int
    process: int
    disk: int
    left_out: list[SkippedPlan]
    steps: list[StepPlan]
    seconds: float
    static_search: StaticSearchPlan | None
    upgrade: list[UpgradePlan]


def plan_tables(plan: Plan) -> list[Table]:
    """Return the tables of a plan.

    Args:
        plan: Returned by `analysis.plan.plan`.
    """
    tables: list[Table] = []
    if plan["positions"]:
        rows = [
            [
                row["position"],
                _shape(row["shape"]),
                f"{row['share']:.1%}",
                ", ".join(f"{head['head']} {_amount(head['multiply_adds'])}" for head in row["heads"]),
            ]
            for row in plan["positions"]
        ]
        tables.append(Table(["position", "shape", "backbone before", "heads, multiply-adds"], rows, "exits"))
    if plan["candidates"]:
        rows = [
            [
                row["stage"],
                _amount(row["multiply_adds"]),
                f"{row['share']:.4f}",
                ", ".join(_shape(shape) for shape in row["inputs"].values()),
            ]
            for row in plan["candidates"]
        ]
        header = ["candidate", "multiply-adds", "of the backbone", "input"]
        tables.append(Table(header, rows, "candidates for savers"))
    if plan["static_search"]:
        search = plan["static_search"]
        rows = [[choice["pruning"], choice["quantization"]] for choice in search["choices"]]
        tables.append(Table(["pruning", "quantization"], rows, f"{search['variants']} static choices"))
    if plan["upgrade"]:
        rows = [[row["backbone"], _amount(row["multiply_adds"]), f"{row['ratio']:.3g}"] for row in plan["upgrade"]]
        tables.append(Table(["backbone", "multiply-adds", "over the model of today"], rows, "backbones of `upgrade`"))
    return [*tables, _steps(plan)]


def plan_lines(plan: Plan) -> list[str]:
    """Return the lines above the tables; arguments as for `plan_tables`."""
    backbone, lines = plan["backbone"], []
    lines.append("splits: " + ", ".join(f"{count} {key}" for key, count in plan["splits"].items()))
    if plan["static"]:
        lines.append("static passes: " + ", ".join(row["pass"] for row in plan["static"]))
    algorithms = plan["quantization"]
    lines.append(f"quantization: {', '.join(algorithms)}{'; measurements choose' if len(algorithms) > 1 else ''}")
    inputs = ", ".join(f"{name} {_shape(shape)}" for name, shape in backbone["inputs"].items())
    unpruned = backbone["given_multiply_adds"]
    pruned = f" (unpruned: {_amount(unpruned)})" if unpruned != backbone["multiply_adds"] else ""
    lines.append(
        f"backbone: {_amount(backbone['multiply_adds'])} multiply-adds{pruned}, {backbone['parameters'] / 1e6:.3g} M "
        f"parameters, {backbone['classes']} classes, inputs: {inputs}"
    )
    lines.append(f"cuts: {backbone['cuts_found']} found, {len(plan['positions'])} in use")
    lines.append(
        f"memory: about {_size(plan['memory'])} for samples and savers in training, beside {_size(plan['process'])} "
        "for models and libraries"
    )
    if plan["disk"]:
        lines.append(f"disk: {_size(plan['disk'])} of samples that are not held in memory")
    return lines + [f"left out: {row['stage']}, {row['why']}" for row in plan["left_out"]]


def _steps(plan: Plan) -> Table:
    search = plan["static_search"]
    steps = search["steps"] if search else plan["steps"]
    total = search["seconds_at_most"] if search else plan["seconds"]
    rows = [[row["step"], duration(row["seconds"])] for row in steps]
    title = "estimated time, if no choice is skipped" if search else "estimated time"
    return Table(["step", "about"], [*rows, ["all", duration(total)]], title)


def duration(seconds: float) -> str:
    """Format seconds in a readable unit."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _shape(sides: Sequence[int | str]) -> str:
    return " x ".join(map(str, sides))


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _amount(multiply_adds: float) -> str:
    for unit in ("", " k", " M"):
        if multiply_adds < 1000:
            return f"{multiply_adds:.4g}{unit}"
        multiply_adds /= 1000
    return f"{multiply_adds:.4g} G"
