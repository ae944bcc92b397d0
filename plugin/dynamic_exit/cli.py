"""The command `dynamic-exit`."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TimeRemainingColumn
from rich.table import Table

from . import parallel
from .errors import DynamicExitError, RecipeError

app = typer.Typer(
    help="Trained classifiers spend less on easy inputs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# seconds in which the main process, where it fails too, has said so, and its launcher has ended all others
_MAIN_ENDS = 5.0
_RecipeFile = Annotated[Path, typer.Argument(help="recipe in YAML")]
_Folder = Annotated[Path, typer.Argument(help="folder that `run` wrote")]
_Json = Annotated[bool, typer.Option("--json", help="print JSON for a script")]


def main(arguments: Sequence[str] | None = None, name: str = "dynamic-exit") -> None:
    """Run the command; a refused input is one line on stderr and exit code 2.

    Args:
        arguments: None takes those of the process.
        name: What the help calls the command.
    """
    try:
        app(arguments, prog_name=name, standalone_mode=False)
    except DynamicExitError as error:
        who = ""
        if not parallel.speaks():
            time.sleep(_MAIN_ENDS)
            who = f", process {os.environ['RANK']}"
        print(f"dynamic-exit{who}: {error}", file=sys.stderr)
        sys.exit(2)
    except typer.Exit as done:
        sys.exit(done.exit_code)
    except typer.Abort:
        sys.exit(130)
    except Exception as error:
        # typer's own complaints about options know how to show themselves
        if hasattr(error, "show"):
            error.show()
            sys.exit(2)
        raise


@app.command()
def run(
    recipe: _RecipeFile,
    output: Annotated[Path | None, typer.Option(help="folder to write, instead of the recipe's")] = None,
    override: Annotated[list[str] | None, typer.Option("--set", help="key=value, with a dotted key")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on where an interrupted run stopped")] = False,
    as_json: _Json = False,
) -> None:
    """Run a recipe and write the served model's folder."""
    from .recipe.run import run as run_recipe

    console = Console(stderr=True)
    loaded = _read(recipe, override, output)
    with _progress(console) as progress:
        result = run_recipe(loaded, say=_said(console), progress=progress, resume=resume)
    if not parallel.speaks():
        return
    if as_json:
        print(json.dumps({"folder": str(result.folder), **result.metrics}, indent=2))
        return
    _print_stacks(result.metrics)
    _print_candidates(result.metrics)
    _print_figures(result.metrics)
    for note in result.metrics["notes"]:
        print(note)
    print(f"\nwrote {os.path.relpath(result.folder)} in {result.metrics['seconds']:.0f} s")


@app.command()
def validate(
    recipe: _RecipeFile,
    override: Annotated[list[str] | None, typer.Option("--set", help="key=value, with a dotted key")] = None,
    as_json: _Json = False,
) -> None:
    """Check a recipe, its models and its data without running it."""
    from .recipe.cache import Cache
    from .recipe.load import load
    from .recipe.pool import Pool

    loaded = _read(recipe, override)
    ingredients, say = load(loaded), _said(Console(stderr=True))
    ingredients.tell(say)
    pool = Pool(ingredients, Cache(None), say).known if ingredients.candidates else []
    if as_json:
        print(json.dumps(loaded.model_dump(mode="json"), indent=2))
        return
    sizes = ", ".join(f"{len(split)} {key}" for key, split in ingredients.splits.items())
    print(f"{recipe} is valid: {ingredients.classes} classes, {sizes} samples, {len(pool)} candidates")


@app.command()
def plan(
    recipe: _RecipeFile,
    override: Annotated[list[str] | None, typer.Option("--set", help="key=value, with a dotted key")] = None,
    as_json: _Json = False,
) -> None:
    """Show what a recipe would run, with shapes, costs and an estimate of the time; nothing is trained or written."""
    from .recipe.plan import plan as plan_recipe
    from .report.plan import plan_lines, plan_tables

    found = plan_recipe(_read(recipe, override), _said(Console(stderr=True)))
    if as_json:
        print(json.dumps(found, indent=2))
        return
    print("\n".join(plan_lines(found)))
    for title, header, rows in plan_tables(found):
        print(f"\n{title}")
        _print_table(header, rows)


@app.command()
def evaluate(
    folder: _Folder,
    data: Annotated[Path, typer.Option(help=".npz with inputs and labels, or a recipe whose test split is used")],
    operating_point: Annotated[str | None, typer.Option(help="name; default: all")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="samples in one call")] = 64,
    as_json: _Json = False,
) -> None:
    """Measure accuracy and exit rates of a written model on other samples."""
    from .recipe.evaluate import evaluate_folder

    rows = evaluate_folder(folder, data, operating_point, batch_size)
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    stages = [stage for stage in rows[0]["exit_rates"] if any(row["exit_rates"][stage] for row in rows)]
    header = ["", "accuracy", "cost", *stages]
    cells = [
        [row["name"], f"{row['accuracy']:.2%}", f"{row['cost_ratio']:.3f}"]
        + [f"{row['exit_rates'][stage]:.0%}" for stage in stages]
        for row in rows
    ]
    _print_table(header, cells)
    print(f"{rows[0]['samples']} samples")


@app.command()
def benchmark(
    folder: _Folder,
    data: Annotated[
        Path | None, typer.Option(help=".npz, or a recipe whose test split is used; default: its own")
    ] = None,
    operating_point: Annotated[list[str] | None, typer.Option(help="name; default: all")] = None,
    batch_size: Annotated[list[int] | None, typer.Option(min=1, help="samples in one call; default: 1, 8, 64")] = None,
    threads: Annotated[int, typer.Option(min=1, help="threads within an operator")] = 1,
    as_json: _Json = False,
) -> None:
    """Time a written model and its backbone alone, in float and int8, all in turn, beside the ideal."""
    from .recipe.benchmark import BATCH_SIZES, benchmark_folder
    from .recipe.evaluate import load_samples
    from .recipe.sources import UNNAMED
    from .report.page import benchmark_tables

    split = load_samples(data or folder / "recipe.yaml")
    found = benchmark_folder(
        folder,
        split.inputs if split.by_name else split.inputs[UNNAMED],
        split.labels,
        operating_points=operating_point,
        batch_sizes=batch_size or BATCH_SIZES,
        threads=threads,
    )
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for title, header, rows in benchmark_tables(found):
        print(title)
        _print_table(header, rows)
        print()
    print(
        f"{found['samples']} samples; {found['runtime']}, threads: {found['threads']}; medians over rounds in which "
        "all rows take turns, ± half the distance of the quartiles\n"
        "ideal: the time of each stage alone, times the share of samples that reach it"
    )


@app.command()
def inspect(folder: _Folder, as_json: _Json = False) -> None:
    """Show what a written folder holds."""
    from .recipe.evaluate import describe_folder

    found = describe_folder(folder)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for key in ("target", "stages", "labels", "inputs", "fuse", "default", "version"):
        value = found[key]
        print(f"{key + ':':9} {', '.join(map(str, value)) if isinstance(value, list) else value}")
    print(f"{'files:':9} {', '.join(f'{name} ({size / 1000:.0f} kB)' for name, size in found['files'].items())}")
    points = found["operating_points"]["points"]
    _print_table(
        ["operating point", "accuracy", "drop", "cost", "thresholds"],
        [
            [
                point["name"],
                f"{point['accuracy']:.2%}",
                f"{point['accuracy_drop']:.2%}",
                f"{point['cost_ratio']:.3f}",
                ", ".join(f"{stage['stage']} > {stage['threshold']:.4f}" for stage in point["stages"]) or "none",
            ]
            for point in points
        ],
    )


@app.command()
def tune(
    records: Annotated[Path, typer.Argument(help="records.npz")],
    output: Annotated[Path, typer.Option(help="operating_points.json to write")],
    max_accuracy_drop: Annotated[list[float] | None, typer.Option(help="allowed drop, 0.005 is half a point")] = None,
    guarantee: Annotated[float | None, typer.Option(help="probability with which the drop shall hold")] = None,
    max_savers: Annotated[int | None, typer.Option(help="savers in a chain at most")] = None,
    fuse: Annotated[str, typer.Option(help="mean or none")] = "mean",
    search_fraction: Annotated[float, typer.Option(help="share of the samples to search on")] = 0.5,
    seed: Annotated[int, typer.Option(help="decides which samples are which")] = 0,
    plot: Annotated[Path | None, typer.Option(help="picture of the trade-off to write, such as front.png")] = None,
    as_json: _Json = False,
) -> None:
    """Find operating points for records, and report them on other samples than were searched."""
    from .tuning.optimizer import DEFAULT_DROPS, tune_file

    options = {
        "guarantee": guarantee,
        "max_savers": max_savers,
        "fuse": fuse,
        "search_fraction": search_fraction,
        "seed": seed,
    }
    points = tune_file(records, output, max_accuracy_drops=max_accuracy_drop or list(DEFAULT_DROPS), **options)
    if plot is not None:
        from .report.front import plot_search

        plot_search(records, points, plot, **options)
    for note in points.notes:
        print(f"dynamic-exit: {note}", file=sys.stderr)
    if as_json:
        print(points.to_json(), end="")
        return
    _print_table(
        ["operating point", "accuracy", "drop", "cost", "guarantee"],
        [
            [
                point.name,
                f"{point.accuracy:.2%}",
                f"{point.accuracy_drop:.2%}",
                f"{point.cost_ratio:.3f}",
                f"{point.guarantee.probability:.0%}" if point.guarantee else "none",
            ]
            for point in points.points
        ],
    )


@app.command()
def passes(as_json: _Json = False) -> None:
    """List the passes and Neural Compressor's algorithms, with parameters, defaults and ranges."""
    from .host import describe_algorithms

    found = describe_algorithms()
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for name, entry in found.items():
        print(f"\n{name} ({entry['from']}): {entry['summary']}")
        rows = [[p["name"], p["default"], p["range"], p["meaning"]] for p in entry["parameters"]]
        _print_table(["parameter", "default", "range", "meaning"], rows, left=True)


def _read(path: Path, overrides: Sequence[str] | None, output: Path | None = None):
    from .recipe.schema import read_recipe

    values: dict[str, Any] = {}
    for override in overrides or ():
        key, equals, value = override.partition("=")
        if not equals:
            raise RecipeError(f"--set takes key=value; got '{override}'")
        try:
            values[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise RecipeError(f"--set {override}: the value is no YAML; put quotes around it") from None
    if output is not None:
        values["export.directory"] = str(output.absolute())
    return read_recipe(path, values)


def _said(console: Console) -> Callable[[str], None]:
    return lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True)


@contextlib.contextmanager
def _progress(console: Console) -> Iterator[Callable[[str, float], None] | None]:
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


def _print_stacks(metrics: dict[str, Any]) -> None:
    from .report.page import stack_summary, stacks_table

    if metrics["static_search"]:
        _print_table(*stacks_table(metrics))
        print(f"{stack_summary(metrics)}\n")


def _print_candidates(metrics: dict[str, Any]) -> None:
    from .report.page import candidates_table

    if metrics["candidates"]:
        _print_table(*candidates_table(metrics))
        print()


def _print_figures(metrics: dict[str, Any]) -> None:
    from .report.page import table

    _print_table(*table(metrics))
    print(
        f"{metrics['samples']['test']} test samples that nothing was tuned on; {metrics['timing']['runtime']}, "
        f"{metrics['timing']['threads']} thread; cost over the backbone's; stages: share of samples that leave there"
    )


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: bool = False) -> None:
    sheet = Table(box=None, pad_edge=False)
    for index, title in enumerate(header):
        sheet.add_column(title, justify="left" if left or index == 0 else "right", overflow="fold")
    for row in rows:
        sheet.add_row(*row)
    # a pipe has no width: give the whole table, not one folded to 80 columns
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False)
    console.print(sheet)


if __name__ == "__main__":
    main()
