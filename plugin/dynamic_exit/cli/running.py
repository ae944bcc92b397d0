"""Runs a recipe and prints what came of it."""

import json
import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console

from ..core import signals
from ..core.launcher import is_rank_zero
from .options import Progress, Requirements, check_guarantee_option, exit_if_unmet
from .render import print_candidates, print_figures, print_static_search, print_upgrade
from .terminal import prints_on_stderr

if TYPE_CHECKING:
    from ..pipeline.result import Result
    from ..recipe.recipe import Recipe


@dataclass(frozen=True)
class RunOptions:
    """The options of commands that run a recipe, called as on the command line."""

    resume: bool
    overwrite: bool
    required: Requirements
    as_json: bool
    progress: Progress
    if_changed: bool = False


def run_and_print(recipe: "Recipe", console: Console, options: RunOptions) -> None:
    """Run a recipe, print tables and notes, and check what is required.

    Args:
        recipe: The recipe.
        console: Of stderr, where progress is shown.
        options: Those of the command.

    Raises:
        DynamicExitError: The run cannot be done.
        typer.Exit: With code 3, a requirement is not met.
    """
    from ..guarantee.drop_checks import describe_unmet_requirements
    from ..output.workspace import explain_resume
    from ..pipeline.run import run
    from ..pipeline.steps import list_steps
    from ..pipeline.unchanged import find_unchanged
    from .live import live_view

    tuning, required = recipe.dynamic_exit.tuning, options.required
    check_guarantee_option(required.require_guarantee, tuning.guarantee, "as dynamic_exit.tuning.guarantee")
    overwrite = options.overwrite or options.if_changed
    unchanged = find_unchanged(recipe) if options.if_changed else None
    if unchanged is None:
        advice = partial(explain_resume, recipe.export.directory, overwrite)
        plain = options.progress.quiet or options.progress.verbose or not is_rank_zero()
        steps = list_steps(recipe)
        with signals.advise_on_interrupt(advice), prints_on_stderr(), live_view(console, steps, plain) as progress:
            result = run(recipe, progress=progress, resume=options.resume, overwrite=overwrite)
    else:
        result = unchanged
    if not is_rank_zero():
        return
    if unchanged is None or options.as_json:
        _print(result, options.as_json)
    else:
        print(f"{os.path.relpath(result.folder)} is up to date: nothing that it was made of has changed")
    contradicted = [row.name for row in result.metrics.rows if row.contradicted]
    upgraded = result.metrics.upgrade.points if result.metrics.upgrade else []
    anything = required.require_drop or required.require_guarantee
    exit_if_unmet(
        describe_unmet_requirements(
            result.points,
            exceeding=contradicted if required.require_drop else [],
            guarantee=required.require_guarantee,
            samples_differ=result.metrics.samples_differ,
            required=[goal.point_name for goal in recipe.point_goals] if anything else [],
            unpromised=[each.name for each in upgraded if each.guarantee is None],
        )
    )


def _print(result: "Result", as_json: bool) -> None:
    if as_json:
        print(json.dumps({"folder": str(result.folder), **result.metrics.to_dict()}, indent=2))
        return
    print_static_search(result.metrics)
    print_upgrade(result.metrics)
    print_candidates(result.metrics)
    print_figures(result.metrics)
    for note in result.metrics.notes:
        print(note)
    print(f"\nwrote {os.path.relpath(result.folder)} in {result.metrics.seconds:.0f} s")
