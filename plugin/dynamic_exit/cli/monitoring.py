"""The command `monitor`."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .options import Folder, Json
from .render import print_table


def monitor(
    folder: Folder,
    state: Annotated[Path, typer.Argument(help="state that the monitor of its live traffic saved")],
    output: Annotated[Path | None, typer.Option(help="page to write, such as monitor.html")] = None,
    as_json: Json = False,
) -> None:
    """Show what the monitor of a served model has found: its alarms, evidence and exit rates."""
    from ..artifact.report_file import run_title, write_page
    from ..dashboard import alarms_table, changes_table, monitor_page, monitor_verdict, rates_table, watched_table
    from ..monitoring import Monitor

    watched = Monitor.resume(folder, state)
    status, reference = watched.status(), watched.reference
    page = None if output is None else write_page(output, monitor_page(run_title(folder), reference, status))
    if as_json:
        print(json.dumps(asdict(status), indent=2))
        return
    print(monitor_verdict(status))
    for table in (watched_table(status), rates_table(reference, status), alarms_table(status), changes_table(status)):
        if table.rows:
            print()
            print_table(table)
    if page is not None:
        print(f"wrote {os.path.relpath(page)}")
