"""Options that several commands share, and what they do."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console

from ..errors import RecipeError
from .terminal import terminal_log

if TYPE_CHECKING:
    from ..recipe.recipe import Recipe

RecipeFile = Annotated[Path, typer.Argument(help="recipe in YAML")]
Folder = Annotated[Path, typer.Argument(help="folder that `run` wrote")]
Override = Annotated[
    list[str] | None, typer.Option("--set", help="key=value, with a dotted key", envvar="DYNAMIC_EXIT_SET")
]
Json = Annotated[bool, typer.Option("--json", help="print JSON for a script")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="run code that a downloaded recipe names; read it first")
]
Resume = Annotated[bool, typer.Option("--resume", help="continue an interrupted run")]


@dataclass(frozen=True)
class Requirements:
    """What must hold, or the command exits with code 3 once all is written."""

    require_drop: Annotated[
        bool, typer.Option("--require-drop", help="exit with code 3 if test samples contradict an allowed drop")
    ] = False
    require_guarantee: Annotated[
        bool,
        typer.Option("--require-guarantee", help="exit with code 3 if a point lacks the guarantee that was asked for"),
    ] = False


@dataclass(frozen=True)
class Progress:
    """How much is said on stderr."""

    quiet: Annotated[bool, typer.Option("--quiet", help="print only warnings and errors on stderr")] = False
    verbose: Annotated[bool, typer.Option("--verbose", help="print details on stderr, too, with logger names")] = False

    def log(self) -> AbstractContextManager[Console]:
        """Print the package's log on stderr meanwhile; yields its console."""
        return terminal_log(self.quiet, self.verbose)


def check_guarantee_option(required: bool, guarantee: float | None, where: str) -> None:
    """Raise `RecipeError` if a guarantee is required but none is asked for."""
    if required and guarantee is None:
        raise RecipeError(f"--require-guarantee: no guarantee is asked for; give its probability {where}, such as 0.95")


def exit_if_unmet(message: str) -> None:
    """Exit with code 3 if a message says that a requirement is not met; everything is written by then."""
    if message:
        print(f"dynamic-exit: {message}", file=sys.stderr)
        raise typer.Exit(3)


def load_recipe(path: Path, overrides: Sequence[str] | None, output: Path | None = None) -> "Recipe":
    """Read a recipe with the values of `--set` and `--output` in place of its own.

    Raises:
        RecipeError: It is not valid.
    """
    from ..recipe.yaml_io import read_recipe

    values = read_overrides(overrides)
    if output is not None:
        values["export.directory"] = str(output.absolute())
    return read_recipe(path, values)


def read_overrides(overrides: Sequence[str] | None) -> dict[str, Any]:
    """Return the values of `--set` by dotted key.

    Raises:
        RecipeError: One is no ``key=value``, or its value is no YAML.
    """
    values: dict[str, Any] = {}
    for override in overrides or ():
        key, equals, value = override.partition("=")
        if not equals:
            raise RecipeError(f"--set takes key=value; got '{override}'")
        try:
            values[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise RecipeError(f"--set {override}: the value is no YAML; put quotes around it") from None
    return values
