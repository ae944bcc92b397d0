"""Tables that the command prints."""

import sys
from typing import TYPE_CHECKING

import rich.table
from rich.console import Console

if TYPE_CHECKING:
    from ..report.metrics import Metrics
    from ..report.tables import Table


def print_static_search(metrics: "Metrics") -> None:
    """Print the result of a search over static choices, if there was one."""
    from ..report.tables import static_search_summary, static_search_table

    if metrics.static_search:
        print_table(static_search_table(metrics.static_search))
        print(f"{static_search_summary(metrics.static_search)}\n")


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
    """Print a table.

    Args:
        table: The table; its title is not printed.
        left: Whether all columns are left-aligned, not only the first.
    """
    grid = rich.table.Table(box=None, pad_edge=False)
    for index, title in enumerate(table.header):
        grid.add_column(title, justify="left" if left or index == 0 else "right", overflow="fold")
    for row in table.rows:
        grid.add_row(*row)
    # a pipe has no width: print the whole table instead of folding it to 80 columns
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False)
    console.print(grid)
