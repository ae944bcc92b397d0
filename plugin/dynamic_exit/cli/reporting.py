"""The commands `report` and `compare`."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import RecipeError
from .options import Json
from .render import print_table

if TYPE_CHECKING:
    from ..report.compare import ComparedRun


def report(
    folder: Annotated[list[Path], typer.Argument(help="folder that `run` wrote; several are done in turn")],
) -> None:
    """Make the page `report.html` of a written folder again."""
    from ..artifact.report_file import write_report

    for each in folder:
        print(f"wrote {os.path.relpath(write_report(each))}")


def compare(
    folder: Annotated[list[Path], typer.Argument(help="folders that `run` wrote, two or more")],
    output: Annotated[Path | None, typer.Option(help="page to write, such as compare.html")] = None,
    as_json: Json = False,
) -> None:
    """Set runs side by side, and say what keeps them from being comparable."""
    from ..artifact.report_file import write_page
    from ..report.compare import comparison_notes, comparison_page, comparison_table

    runs = _read_runs(folder)
    notes = comparison_notes(runs)
    page = None if output is None else write_page(output, comparison_page(runs))
    for note in notes:
        print(f"dynamic-exit: {note}", file=sys.stderr)
    if as_json:
        rows = [{"run": run.name, **row.model_dump(exclude_unset=True)} for run in runs for row in run.metrics.rows]
        print(json.dumps({"notes": notes, "rows": rows}, indent=2))
        return
    print_table(comparison_table(runs))
    if page is not None:
        print(f"wrote {os.path.relpath(page)}")


def _read_runs(folders: Sequence[Path]) -> "list[ComparedRun]":
    """Read runs and name them, as briefly as tells them apart.

    Raises:
        DynamicExitError: There is one alone, one comes twice, or one cannot be read.
    """
    from ..artifact.report_file import read_run
    from ..report.compare import ComparedRun

    if len(folders) < 2:
        raise RecipeError("compare takes two folders or more; got one")
    real = [folder.resolve() for folder in folders]
    twice = next((folder for folder, place in zip(folders, real, strict=True) if real.count(place) > 1), None)
    if twice is not None:
        raise RecipeError(f"compare takes each folder once; '{twice}' comes twice")
    depth = next(n for n in range(1, 1000) if len({place.parts[-n:] for place in real}) == len(real))
    names = ["/".join(place.parts[-depth:]) for place in real]
    return [ComparedRun(name, *read_run(folder)) for name, folder in zip(names, folders, strict=True)]
