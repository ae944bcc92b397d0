"""The commands that need no recipe: `compress` and `init`."""

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml

from ..core.atomic_write import atomic_write
from ..errors import OutputError, RecipeError
from .options import Json, Quiet, RequireDrop, RequireGuarantee, Verbose, load_recipe
from .running import RunOptions, run_and_print
from .terminal import terminal_log

if TYPE_CHECKING:
    from ..start import Question, Request

logger = logging.getLogger(__name__)

_Model = Annotated[str, typer.Option(help="timm/NAME, a name or folder of Hugging Face, or file.py:function")]
_Data = Annotated[
    str, typer.Option(help="folder of class folders, text file, .npz, dataset of Hugging Face, or file.py:function")
]
_Weights = Annotated[str | None, typer.Option(help="file of the model's weights")]
_Candidate = Annotated[
    list[str] | None, typer.Option(help="small model for a saver, as NAME or NAME=WEIGHTS; default: made here")
]
_Drop = Annotated[float, typer.Option(help="accuracy that may be lost, 0.005 is half a point")]
_Target = Annotated[str, typer.Option(help="what runs the model")]
_Output = Annotated[Path | None, typer.Option(help="folder that the run writes; default: MODEL-dynamic")]
_RecipePath = Annotated[Path | None, typer.Option("--recipe", help="file to write; default: OUTPUT.yaml")]
_Splits = Annotated[str | None, typer.Option(help="train=NAME,calibration=NAME,test=NAME; default: found or drawn")]
_TextColumn = Annotated[str | None, typer.Option(help="column of texts; default: found")]
_LabelColumn = Annotated[str | None, typer.Option(help="column of labels; default: found")]
_Pixels = Annotated[
    str | None,
    typer.Option(help="pixels that functions and .onnx candidates were trained on: 0-255, 0-1, -1-1 or imagenet"),
]
_Size = Annotated[str | None, typer.Option(help="side of pictures in pixels, or height,width; default: the model's")]
_Seed = Annotated[int, typer.Option(min=0, help="of the recipe; draws the splits")]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace the recipe, and what an earlier run wrote")]


def init(
    model: _Model,
    data: _Data,
    weights: _Weights = None,
    candidate: _Candidate = None,
    max_accuracy_drop: _Drop = 0.005,
    target: _Target = "onnxruntime",
    output: _Output = None,
    recipe: _RecipePath = None,
    splits: _Splits = None,
    text_column: _TextColumn = None,
    label_column: _LabelColumn = None,
    pixels: _Pixels = None,
    size: _Size = None,
    seed: _Seed = 0,
    overwrite: _Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Look at a model and at data, and write a recipe with comments that runs as it is."""
    from ..recipe.json_schema import schema_text
    from ..start import Request
    from ..start.recipe_text import SCHEMA_FILE

    with terminal_log(quiet, verbose):
        request = Request(model, data, weights, candidate or (), splits, text_column, label_column, pixels, size)
        file = _write_recipe(request, recipe, output, (max_accuracy_drop, target, seed), overwrite, with_schema=True)
        schema = file.parent / SCHEMA_FILE
        with atomic_write(schema) as part:
            part.write(schema_text().encode())
    print(f"wrote {_shown(file)}, and {_shown(schema)} for editors; run it with `dynamic-exit run {_shown(file)}`")


def compress(
    model: _Model,
    data: _Data,
    weights: _Weights = None,
    candidate: _Candidate = None,
    max_accuracy_drop: _Drop = 0.005,
    target: _Target = "onnxruntime",
    output: _Output = None,
    recipe: _RecipePath = None,
    splits: _Splits = None,
    text_column: _TextColumn = None,
    label_column: _LabelColumn = None,
    pixels: _Pixels = None,
    size: _Size = None,
    seed: _Seed = 0,
    resume: Annotated[bool, typer.Option("--resume", help="continue an interrupted run")] = False,
    overwrite: _Overwrite = False,
    require_drop: RequireDrop = False,
    require_guarantee: RequireGuarantee = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Look at a model and at data, write the recipe that suits them, and run it."""
    from ..start import Request

    with terminal_log(quiet, verbose) as console:
        request = Request(model, data, weights, candidate or (), splits, text_column, label_column, pixels, size)
        file = _write_recipe(request, recipe, output, (max_accuracy_drop, target, seed), overwrite)
        logger.info(f"wrote {_shown(file)}, the recipe that runs now")
        options = RunOptions(resume, overwrite, require_drop, require_guarantee, as_json, quiet, verbose)
        run_and_print(load_recipe(file, None), console, options)


def _write_recipe(
    request: "Request",
    file: Path | None,
    output: Path | None,
    wanted: tuple[float, str, int],
    overwrite: bool,
    with_schema: bool = False,
) -> Path:
    """Look, say what was found, and write the recipe.

    Args:
        request: Model and data.
        file: Where to; None stands beside the output.
        output: Folder of the run; None is called like the model.
        wanted: Accuracy drop, target and seed.
        overwrite: Whether another recipe may be replaced.
        with_schema: Whether it points editors to its schema.

    Returns:
        The file.

    Raises:
        OutputError: Another recipe is there.
    """
    from ..recipe.yaml_io import parse_recipe
    from ..start import look_at, refuse_to_guess, starting_recipe

    in_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    found = look_at(request, _ask if in_terminal else refuse_to_guess)
    for line in found.lines:
        logger.info(line)
    drop, target, seed = wanted
    output = output or Path(f"{found.model.short_name}-dynamic")
    file = file or output.parent / f"{output.name}.yaml"
    text = starting_recipe(found, file=file, output=output, drop=drop, target=target, seed=seed)
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
