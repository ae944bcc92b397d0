"""The tables and lines that `dynamic-exit plan` prints."""

from collections.abc import Mapping, Sequence
from typing import Any

from .tables import Table


def plan_tables(plan: Mapping[str, Any]) -> list[Table]:
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
    return [*tables, _steps(plan)]


def plan_lines(plan: Mapping[str, Any]) -> list[str]:
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
    lines.append(f"memory: about {plan['memory'] / 1e6:.3g} MB for samples and savers in training")
    return lines + [f"left out: {row['stage']}, {row['why']}" for row in plan["left_out"]]


def _steps(plan: Mapping[str, Any]) -> Table:
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


def _amount(multiply_adds: float) -> str:
    for unit in ("", " k", " M"):
        if multiply_adds < 1000:
            return f"{multiply_adds:.4g}{unit}"
        multiply_adds /= 1000
    return f"{multiply_adds:.4g} G"
