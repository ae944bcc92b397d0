"""The commands that need no recipe: `compress` and `init`."""

import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml

from ..core.atomic_write import atomic_write
from ..errors import OutputError, RecipeError
from .options import Json, Progress, Requirements, Resume, load_recipe
from .running import RunOptions, run_and_print

if TYPE_CHECKING:
    from ..start import Question, Request

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StartOptions:
    """What a recipe is started from, and where it goes."""

    model: Annotated[str, typer.Option(help="timm/NAME, a name or folder of Hugging Face, or file.py:function")]
    data: Annotated[
        str, typer.Option(help="folder of class folders, text file, .npz, dataset of Hugging Face, or file.py:function")
    ]
    weights: Annotated[str | None, typer.Option(help="file of the model's weights")] = None
    candidate: Annotated[
        list[str] | None, typer.Option(help="small model for a saver, as NAME or NAME=WEIGHTS; default: made here")
    ] = None
    max_accuracy_drop: Annotated[float, typer.Option(help="accuracy that may be lost, 0.005 is half a point")] = 0.005
    target: Annotated[str, typer.Option(help="what runs the model")] = "onnxruntime"
    output: Annotated[Path | None, typer.Option(help="folder that the run writes; default: MODEL-dynamic")] = None
    recipe: Annotated[Path | None, typer.Option(help="file to write; default: OUTPUT.yaml")] = None
    splits: Annotated[
        str | None, typer.Option(help="train=NAME,calibration=NAME,test=NAME; default: found or drawn")
    ] = None
    text_column: Annotated[str | None, typer.Option(help="column of texts; default: found")] = None
    label_column: Annotated[str | None, typer.Option(help="column of labels; default: found")] = None
    pixels: Annotated[
        str | None,
        typer.Option(help="pixels that functions and .onnx candidates were trained on: 0-255, 0-1, -1-1 or imagenet"),
    ] = None
    size: Annotated[
        str | None, typer.Option(help="side of pictures in pixels, or height,width; default: the model's")
    ] = None
    seed: Annotated[int, typer.Option(min=0, help="of the recipe; draws the splits")] = 0

    def request(self) -> "Request":
        """Return what is looked at."""
        from ..start import Request

        return Request(
            self.model,
            self.data,
            self.weights,
            self.candidate or (),
            self.splits,
            self.text_column,
            self.label_column,
            self.pixels,
            self.size,
        )


_Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace the recipe, and what an earlier run wrote")]


def init(start: StartOptions, *, overwrite: _Overwrite = False, progress: Progress) -> None:
    """Look at a model and at data, and write a recipe with comments that runs as it is."""
    from ..recipe.json_schema import schema_text
    from ..start.recipe_text import SCHEMA_FILE

    with progress.log():
        file = _write_recipe(start, overwrite, with_schema=True)
        schema = file.parent / SCHEMA_FILE
        with atomic_write(schema) as part:
            part.write(schema_text().encode())
    print(f"wrote {_shown(file)}, and {_shown(schema)} for editors; run it with `dynamic-exit run {_shown(file)}`")


def compress(
    start: StartOptions,
    *,
    resume: Resume = False,
    overwrite: _Overwrite = False,
    required: Requirements,
    as_json: Json = False,
    progress: Progress,
) -> None:
    """Look at a model and at data, write the recipe that suits them, and run it."""
    with progress.log() as console:
        file = _write_recipe(start, overwrite)
        logger.info(f"wrote {_shown(file)}, the recipe that runs now")
        run_and_print(load_recipe(file, None), console, RunOptions(resume, overwrite, required, as_json, progress))


def _write_recipe(start: StartOptions, overwrite: bool, with_schema: bool = False) -> Path:
    """Look, say what was found, and write the recipe.

    Args:
        start: Options of the command.
        overwrite: Whether another recipe may be replaced.
        with_schema: Whether it points editors to its schema.

    Returns:
        The file.

    Raises:
        OutputError: Another recipe is there, or the folder has a recipe's name.
    """
    from ..recipe.yaml_io import parse_recipe
    from ..start import look_at, refuse_to_guess, starting_recipe

    if start.output and start.output.suffix in (".yaml", ".yml"):
        raise OutputError(f"--output '{start.output}' is the folder that the run writes; give the recipe by --recipe")
    in_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    found = look_at(start.request(), _ask if in_terminal else refuse_to_guess)
    for line in found.lines:
        logger.info(line)
    output = start.output or Path(f"{found.model.short_name}-dynamic")
    file = start.recipe or output.parent / f"{output.name}.yaml"
    text = starting_recipe(
        found, file=file, output=output, drop=start.max_accuracy_drop, target=start.target, seed=start.seed
    )
    if not with_schema:
        text = text.partition("\n")[2]
    parse_recipe(yaml.safe_load(text), file.absolute().parent)  # before anything is written
    if file.exists() and not overwrite and not (file.is_file() and file.read_text(encoding="utf-8") == text):
        raise OutputError(f"'{file}' is there already; give --overwrite to replace it, or --recipe for another file")
    with atomic_write(file) as part:
        part.write(text.encode())
    return file


def _ask(question: "Question") -> str:
    """Ask in the terminal, with the choices and the default shown, until an answer is possible."""
    choices = f" ({', '.join(question.choices)})" if question.choices else ""
    about = f"{question.about[0].upper()}{question.about[1:]}{choices}"
    while True:
        answer = str(typer.prompt(about, default=question.default, err=True))
        try:
            return question.check(answer)
        except RecipeError as error:
            typer.echo(str(error), err=True)


def _shown(file: Path) -> str:
    return os.path.relpath(file)
