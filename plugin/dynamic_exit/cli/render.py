"""Tables that the command prints."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from ..report.metrics import Metrics


def print_stacks(metrics: "Metrics") -> None:
    """Print the result of a search over static choices, if there was one."""
    from ..report.page import stack_summary, stacks_table

    if metrics.static_search:
        print_table(*stacks_table(metrics.static_search))
        print(f"{stack_summary(metrics.static_search)}\n")


def print_candidates(metrics: "Metrics") -> None:
    """Print the table of candidates for savers, if there are any."""
    from ..report.page import candidates_table

    if metrics.candidates:
        print_table(*candidates_table(metrics))
        print()


def print_figures(metrics: "Metrics") -> None:
    """Print the table of operating points."""
    from ..report.page import table

    print_table(*table(metrics))
    print(
        f"{metrics.samples['test']} test samples that nothing was tuned on; {metrics.timing.runtime}, "
        f"{metrics.timing.threads} thread; accuracy ± its standard error; cost over the backbone's; "
        "stages: share of samples that leave there"
    )


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: bool = False) -> None:
    """Print a table.

    Args:
        header: Column titles.
        rows: One string per column.
        left: Whether all columns are aligned left, not only the first.
    """
    sheet = Table(box=None, pad_edge=False)
    for index, title in enumerate(header):
        sheet.add_column(title, justify="left" if left or index == 0 else "right", overflow="fold")
    for row in rows:
        sheet.add_row(*row)
    # a pipe has no width: print the whole table instead of folding it to 80 columns
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False)
    console.print(sheet)
