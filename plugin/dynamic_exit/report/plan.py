"""What `dynamic-exit plan` prints of a plan."""

from collections.abc import Mapping, Sequence
from typing import Any

#: Title, header and cells of a table.
Sheet = tuple[str, list[str], list[list[str]]]


def plan_tables(found: Mapping[str, Any]) -> list[Sheet]:
    """Return the tables of a plan.

    Args:
        found: What `recipe.plan.plan` returned.
    """
    tables: list[Sheet] = []
    if found["positions"]:
        rows = [
            [
                row["position"],
                _shape(row["shape"]),
                f"{row['share']:.1%}",
                ", ".join(f"{head['head']} {_amount(head['multiply_adds'])}" for head in row["heads"]),
            ]
            for row in found["positions"]
        ]
        tables.append(("exits", ["position", "shape", "backbone before", "heads, multiply-adds"], rows))
    if found["candidates"]:
        rows = [
            [
                row["stage"],
                _amount(row["multiply_adds"]),
                f"{row['share']:.4f}",
                ", ".join(_shape(shape) for shape in row["inputs"].values()),
            ]
            for row in found["candidates"]
        ]
        tables.append(("candidates for savers", ["candidate", "multiply-adds", "of the backbone", "input"], rows))
    if found["static_search"]:
        search = found["static_search"]
        rows = [[choice["pruning"], choice["quantization"]] for choice in search["choices"]]
        tables.append((f"{search['variants']} static choices", ["pruning", "quantization"], rows))
    return [*tables, _steps(found)]


def plan_lines(found: Mapping[str, Any]) -> list[str]:
    """Return what stands above the tables, line by line; arguments as for `plan_tables`."""
    backbone, lines = found["backbone"], []
    lines.append("splits: " + ", ".join(f"{count} {key}" for key, count in found["splits"].items()))
    if found["static"]:
        lines.append("static passes: " + ", ".join(row["pass"] for row in found["static"]))
    ways = found["quantization"]
    lines.append(f"quantization: {', '.join(ways)}{'; measurements choose' if len(ways) > 1 else ''}")
    inputs = ", ".join(f"{name} {_shape(shape)}" for name, shape in backbone["inputs"].items())
    given = backbone["given_multiply_adds"]
    pruned = f" (unpruned: {_amount(given)})" if given != backbone["multiply_adds"] else ""
    lines.append(
        f"backbone: {_amount(backbone['multiply_adds'])} multiply-adds{pruned}, {backbone['parameters'] / 1e6:.3g} M "
        f"parameters, {backbone['classes']} classes, inputs: {inputs}"
    )
    lines.append(f"cuts: {backbone['cuts_found']} found, {len(found['positions'])} in use")
    return lines + [f"left out: {row['stage']}, {row['why']}" for row in found["left_out"]]


def _steps(found: Mapping[str, Any]) -> Sheet:
    search = found["static_search"]
    steps = search["steps"] if search else found["steps"]
    total = search["seconds_at_most"] if search else found["seconds"]
    rows = [[row["step"], duration(row["seconds"])] for row in steps]
    title = "estimated time, if no choice is skipped" if search else "estimated time"
    return title, ["step", "about"], [*rows, ["all", duration(total)]]


def duration(seconds: float) -> str:
    """Return seconds in the unit that suits them."""
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
