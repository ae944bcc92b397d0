"""Tables that the command prints."""

import dataclasses
import sys
from typing import TYPE_CHECKING

import rich.table
from rich.cells import cell_len
from rich.console import Console

from .terminal import plain

if TYPE_CHECKING:
    from ..report.metrics import Metrics
    from ..report.tables import Table

# between two columns
_GAP = 2


def print_static_search(metrics: "Metrics") -> None:
    """Print the result of a search over static choices, if there was one."""
    from ..report.tables import static_search_summary, static_search_table

    if metrics.static_search:
        print_table(static_search_table(metrics.static_search))
        print(f"{static_search_summary(metrics.static_search)}\n")


def print_upgrade(metrics: "Metrics") -> None:
    """Print the backbones of an upgrade, if there was one."""
    from ..report.tables import upgrade_table

    if metrics.upgrade:
        print_table(upgrade_table(metrics.upgrade))
        print()


def print_candidates(metrics: "Metrics") -> None:
    """Print the table of candidates for savers, if there are any."""
    from ..report.tables import candidates_table

    if metrics.candidates:
        print_table(candidates_table(metrics))
        print()


def print_figures(metrics: "Metrics") -> None:
    """Print the table of operating points."""
    from ..report.tables import metrics_table

    print_table(metrics_table(metrics))
    print(
        f"{metrics.samples['test']} test samples that nothing was tuned on; {metrics.timing.runtime}, "
        f"{metrics.timing.threads} thread; accuracy ± its standard error; cost over the backbone's; "
        "stages: share of samples that leave there"
    )


def print_table(table: "Table", left: bool = False) -> None:
    """Print a table; in a terminal the least important columns are left out until it fits, and are named below.

    Args:
        table: The table; its title is not printed.
        left: Whether all columns are left-aligned, not only the first.
    """
    header, *rows = ([plain(cell) for cell in row] for row in (table.header, *table.rows))
    table = dataclasses.replace(table, header=header, rows=rows)
    # a pipe has no width: the whole table is printed
    width = Console().width if sys.stdout.isatty() else None
    shown, left_out = fit(table, width) if width else (table, [])
    grid = rich.table.Table(box=None, pad_edge=False)
    for index, title in enumerate(shown.header):
        grid.add_column(title, justify="left" if left or index == 0 else "right", overflow="fold")
    for row in shown.rows:
        grid.add_row(*row)
    console = Console(
        width=width or max(200, sum(column_widths(shown)) + 2 * len(shown.header)), highlight=False, markup=False
    )
    console.print(grid)
    if left_out:
        console.print(f"left out, for a wider terminal: {', '.join(left_out)}")


def fit(table: "Table", width: int) -> "tuple[Table, list[str]]":
    """Leave out columns, the least important first, until a table fits a width; names and one more column stay.

    Returns:
        What is left, and the titles of what is not.
    """
    widths = [max(map(_least_width, column)) for column in zip(table.header, *table.rows, strict=True)]
    order = list(dict.fromkeys([*table.importance, *range(len(widths))]))
    kept = list(order)
    while len(kept) > table.names + 1 and sum(widths[i] for i in kept) + _GAP * (len(kept) - 1) > width:
        kept.pop()
    columns = sorted(kept)
    dropped = [table.header[i] for i in sorted({*order} - {*kept})]
    return table.keep(columns), list(dict.fromkeys(dropped))


def _least_width(cell: str) -> int:
    """Return how many cells of a terminal a cell takes at least; a list may go over several lines."""
    *first, last = cell.split(", ")
    return max(*(cell_len(each) + 1 for each in first), cell_len(last)) if first else cell_len(last)


def column_widths(table: "Table") -> list[int]:
    """Return how many cells of a terminal each column takes."""
    return [max(map(cell_len, column)) for column in zip(table.header, *table.rows, strict=True)]
