"""The command `dynamic-exit`."""

import errno
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ..core import signals
from ..core.batching import DEFAULT_BATCH_SIZE
from ..core.garbage import rare_searches
from ..core.launcher import is_rank_zero
from ..core.process_state import preserve_process_state
from ..errors import DynamicExitError, RecipeError, nearest
from . import monitoring, predicting, reporting, serving, signing, start, tuning
from .option_groups import takes_groups
from .options import (
    Folder,
    Json,
    Override,
    Progress,
    RecipeFile,
    Requirements,
    Resume,
    TrustRemoteCode,
    load_recipe,
    read_overrides,
)
from .render import print_table
from .running import RunOptions, run_and_print
from .terminal import encodable_output, prints_on_stderr

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
# what the system says of places that a user named, wherever they are looked at first
_PLACE_ERRORS = {
    getattr(errno, name) for name in "EACCES EPERM ENAMETOOLONG ELOOP ENOTDIR EROFS ENOSPC EDQUOT EIO".split()
}
# seconds that other processes leave the main one to report the same error, whereupon the launcher ends them
_MAIN_PROCESS_SECONDS = 5.0


@preserve_process_state()
def main(arguments: Sequence[str] | None = None, name: str = "dynamic-exit") -> None:
    """Run the command.

    Args:
        arguments: Command line arguments; None takes those of the process.
        name: Name of the command in its help.

    Raises:
        SystemExit: With code 2 after a bad input, 3 after an unmet requirement, 130 after Ctrl-C and 143 after SIGTERM,
            each with one line on stderr.
    """
    with signals.handle_signals(), encodable_output(), rare_searches():
        code = _run(arguments, name)
    if code:
        sys.exit(code)


def _run(arguments: Sequence[str] | None, name: str) -> int:
    """Run the command and return its exit code."""
    try:
        return app(arguments, prog_name=name, standalone_mode=False) or 0
    except DynamicExitError as error:
        process = ""
        if not is_rank_zero():
            time.sleep(_MAIN_PROCESS_SECONDS)
            process = f", process {os.environ['RANK']}"
        print(f"dynamic-exit{process}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None or error.errno not in _PLACE_ERRORS:
            raise
        print(f"dynamic-exit: '{error.filename}' cannot be used: {error.strerror}; check the path", file=sys.stderr)
        return 2
    except typer.Abort:
        return 130
    except Exception as error:
        # typer's errors about options print themselves
        if hasattr(error, "show"):
            error.show()
            return 2
        raise


def _print_version(wanted: bool) -> None:
    if wanted:
        import dynamic_exit

        print(f"dynamic-exit {dynamic_exit.__version__}")
        raise typer.Exit()


@app.callback()
def _command(
    version: Annotated[
        bool, typer.Option("--version", help="print the version", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Trained classifiers spend less on easy inputs."""


app.command()(takes_groups(start.compress))
app.command()(takes_groups(start.init))
app.command()(reporting.report)
app.command()(reporting.compare)
app.command()(monitoring.monitor)
app.command()(takes_groups(serving.serve))
app.command()(takes_groups(predicting.predict))
app.command()(signing.sign)
app.command()(signing.verify)


@app.command()
@takes_groups
def run(
    recipe: RecipeFile,
    *,
    output: Annotated[
        Path | None, typer.Option(help="folder to write, instead of the recipe's", envvar="DYNAMIC_EXIT_OUTPUT")
    ] = None,
    override: Override = None,
    resume: Resume = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace what an earlier run wrote there")] = False,
    if_changed: Annotated[
        bool, typer.Option("--if-changed", help="only if something it was made of has changed; then as --overwrite")
    ] = False,
    required: Requirements,
    as_json: Json = False,
    progress: Progress,
) -> None:
    """Run a recipe and write the served model's folder."""
    with progress.log() as console:
        loaded = load_recipe(recipe, override, output)
        run_and_print(loaded, console, RunOptions(resume, overwrite, required, as_json, progress, if_changed))


@app.command()
@takes_groups
def validate(
    recipe: RecipeFile,
    *,
    override: Override = None,
    as_json: Json = False,
    progress: Progress,
) -> None:
    """Find every fault of a recipe, its models and its data, without running it."""
    from .validating import print_validation

    with progress.log():
        print_validation(recipe, read_overrides(override), as_json)


@app.command()
@takes_groups
def plan(
    recipe: RecipeFile,
    *,
    override: Override = None,
    as_json: Json = False,
    progress: Progress,
) -> None:
    """Show what a recipe would run, with shapes, costs and estimated times; nothing but the cache is written."""
    from ..analysis.plan import plan as plan_recipe
    from ..analysis.plan_tables import plan_lines, plan_tables

    with progress.log(), prints_on_stderr():
        found = plan_recipe(load_recipe(recipe, override))
    if as_json:
        print(json.dumps(found, indent=2))
        return
    print("\n".join(plan_lines(found)))
    for table in plan_tables(found):
        print(f"\n{table.title}")
        print_table(table)


@app.command()
@takes_groups
def evaluate(
    folder: Folder,
    *,
    data: Annotated[Path, typer.Option(help=".npz, text file, folder of class folders, or a recipe (its test split)")],
    operating_point: Annotated[str | None, typer.Option(help="name; default: all")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="samples in one call")] = DEFAULT_BATCH_SIZE,
    trust_remote_code: TrustRemoteCode = False,
    as_json: Json = False,
    progress: Progress,
) -> None:
    """Measure accuracy and exit rates of a written model on other samples."""
    from ..analysis.evaluate import evaluate_folder
    from ..report.tables import Table, percent

    with progress.log(), prints_on_stderr():
        rows = evaluate_folder(folder, data, operating_point, batch_size, trust_remote_code)
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    stages = [stage for stage in rows[0]["exit_rates"] if any(row["exit_rates"][stage] for row in rows)]
    header = ["", "accuracy", "cost", *stages]
    cells = [
        [row["name"], percent(row["accuracy"], row["accuracy_standard_error"], 2), f"{row['cost_ratio']:.3f}"]
        + [f"{row['exit_rates'][stage]:.0%}" for stage in stages]
        for row in rows
    ]
    print_table(Table(header, cells))
    print(f"{rows[0]['samples']} samples")


@app.command()
@takes_groups
def benchmark(
    folder: Folder,
    *,
    data: Annotated[Path | None, typer.Option(help="as for evaluate; default: its own recipe")] = None,
    operating_point: Annotated[list[str] | None, typer.Option(help="name; default: all")] = None,
    batch_size: Annotated[list[int] | None, typer.Option(min=1, help="samples in one call; default: 1, 8, 64")] = None,
    threads: Annotated[int, typer.Option(min=1, help="threads within an operator")] = 1,
    trust_remote_code: TrustRemoteCode = False,
    as_json: Json = False,
    progress: Progress,
) -> None:
    """Time a written model against its backbone, in float and int8, and against the ideal."""
    from ..analysis.benchmark import BATCH_SIZES, benchmark_folder
    from ..analysis.samples import load_samples
    from ..report.tables import benchmark_tables

    with progress.log(), prints_on_stderr():
        split = load_samples(data or folder / "recipe.yaml", folder, trust_remote_code)
        found = benchmark_folder(
            folder,
            split.inputs if len(split.inputs) > 1 else next(iter(split.inputs.values())),
            split.labels,
            operating_points=operating_point,
            batch_sizes=batch_size or BATCH_SIZES,
            threads=threads,
        )
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for table in benchmark_tables(found):
        print(table.title)
        print_table(table)
        print()
    print(
        f"{found['samples']} samples; {found['runtime']}, threads: {found['threads']}; medians over rounds in which "
        "all rows take turns, ± half the distance of the quartiles\n"
        "ideal: the time of each stage alone, times the share of samples that reach it"
    )
    for note in found["notes"]:
        print(note)


@app.command()
def inspect(folder: Folder, as_json: Json = False) -> None:
    """Show the contents of a written folder."""
    from ..analysis.inspect import inspect_folder
    from ..report.tables import folder_table

    found = inspect_folder(folder)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    described: dict[str, object] = {**found}
    for key in ("target", "stages", "labels", "inputs", "fuse", "default", "version"):
        value = described[key]
        print(f"{key + ':':9} {', '.join(map(str, value)) if isinstance(value, list) else value}")
    if last := found["operating_points"]["last_stage"]:
        print(f"ends at:  {last}, which answers as final; the file holds neither what is behind it nor `backbone`")
    print(f"{'files:':9} {', '.join(f'{name} ({size / 1000:.0f} kB)' for name, size in found['files'].items())}")
    print_table(folder_table(found))


app.command()(takes_groups(tuning.tune))


@app.command()
def passes(
    name: Annotated[str | None, typer.Argument(help="a pass or an algorithm; default: all, a line each")] = None,
    as_json: Json = False,
) -> None:
    """List the passes and Neural Compressor's algorithms, or show one with its parameters, defaults and ranges."""
    from ..integrations.neural_compressor import describe_algorithms
    from .passes import print_pass, print_passes

    found = describe_algorithms()
    if name is not None and name not in found:
        raise RecipeError(f"there is no pass '{name}'; {nearest(name, found)}")
    if as_json:
        print(json.dumps(found if name is None else found[name], indent=2))
    elif name is None:
        print_passes(found)
    else:
        print_pass(name, found[name])


@app.command()
def schema() -> None:
    """Print the JSON schema of recipes, for editors."""
    from ..recipe.json_schema import schema_text

    print(schema_text(), end="")


if __name__ == "__main__":
    main()
