"""What the command prints: lines, a bar, tables."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TimeRemainingColumn
from rich.table import Table

from ..core import signals


def said(console: Console) -> Callable[[str], None]:
    """Return what prints one line of progress."""

    def say(line: str) -> None:
        signals.check()
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    return say


@contextlib.contextmanager
def progress_bar(console: Console) -> Iterator[Callable[[str, float], None] | None]:
    """Draw a bar with an estimate of the time left; without a terminal the run says lines itself."""
    if not console.is_terminal:
        yield None
        return
    columns = ("{task.description}", BarColumn(), "{task.percentage:.0f}%", TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        tasks: list[TaskID] = []

        def move(what: str, share: float) -> None:
            tasks.extend([bar.add_task(what, total=1.0)] if not tasks else [])
            bar.update(tasks[0], description=what, completed=share, visible=share < 1, refresh=share >= 1)

        yield move


def print_stacks(metrics: dict[str, Any]) -> None:
    """Print what a search over static choices has found."""
    from ..report.page import stack_summary, stacks_table

    if metrics["static_search"]:
        print_table(*stacks_table(metrics))
        print(f"{stack_summary(metrics)}\n")


def print_candidates(metrics: dict[str, Any]) -> None:
    """Print the table of candidates for savers."""
    from ..report.page import candidates_table

    if metrics["candidates"]:
        print_table(*candidates_table(metrics))
        print()


def print_figures(metrics: dict[str, Any]) -> None:
    """Print the table of operating points."""
    from ..report.page import table

    print_table(*table(metrics))
    print(
        f"{metrics['samples']['test']} test samples that nothing was tuned on; {metrics['timing']['runtime']}, "
        f"{metrics['timing']['threads']} thread; accuracy ± its standard error; cost over the backbone's; "
        "stages: share of samples that leave there"
    )


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: bool = False) -> None:
    """Print a table.

    Args:
        header: Column titles.
        rows: One text for each column.
        left: Whether all columns are set flush left, not the first alone.
    """
    sheet = Table(box=None, pad_edge=False)
    for index, title in enumerate(header):
        sheet.add_column(title, justify="left" if left or index == 0 else "right", overflow="fold")
    for row in rows:
        sheet.add_row(*row)
    # a pipe has no width: give the whole table, not one folded to 80 columns
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False)
    console.print(sheet)
