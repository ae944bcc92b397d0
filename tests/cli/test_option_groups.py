from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from typer.testing import CliRunner

from dynamic_exit.cli.option_groups import takes_groups


@dataclass(frozen=True)
class Shape:
    width: Annotated[int, typer.Option(min=1)]
    names: Annotated[list[str] | None, typer.Option("--name")] = None


@dataclass(frozen=True)
class Noise:
    loud: Annotated[bool, typer.Option("--loud")] = False


def invoke(*arguments):
    calls = []

    def draw(
        file: Annotated[Path, typer.Argument()], *, shape: Shape, seed: Annotated[int, typer.Option()] = 3, noise: Noise
    ) -> None:
        """Draw a picture."""
        calls.append((file, shape, seed, noise))

    app = typer.Typer()
    app.command()(takes_groups(draw))
    result = CliRunner().invoke(app, arguments)
    return result, calls


def test_a_command_is_called_with_dataclasses_of_its_options():
    result, calls = invoke("a.png", "--width", "2", "--name", "x", "--name", "y", "--loud")
    assert (result.exit_code, calls) == (0, [(Path("a.png"), Shape(2, ["x", "y"]), 3, Noise(True))])
    assert invoke("a.png", "--width", "2")[1] == [(Path("a.png"), Shape(2), 3, Noise())]


def test_options_of_groups_are_checked_and_shown_where_the_group_stands():
    assert invoke("a.png")[0].exit_code == invoke("a.png", "--width", "0")[0].exit_code == 2
    text = invoke("--help")[0].output
    places = [text.index(each) for each in ("Draw a picture.", "--width", "--name", "--seed", "--loud")]
    assert places == sorted(places)
