"""Prints what is wrong with a recipe."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from .terminal import prints_on_stderr


def print_validation(path: Path, overrides: Mapping[str, Any], as_json: bool) -> None:
    """Check a recipe and print what was found.

    Args:
        path: The recipe.
        overrides: Dotted key -> value, in place of the recipe's own.
        as_json: Whether to print JSON: the recipe with every default, or its faults.

    Raises:
        typer.Exit: With code 2, the recipe has faults.
    """
    from ..analysis.validate import validate

    with prints_on_stderr():
        found = validate(path, overrides)
    if found.recipe is None or found.run_inputs is None:
        if as_json:
            print(json.dumps({"faults": [asdict(fault) for fault in found.faults]}, indent=2))
        for fault in found.faults if not as_json else ():
            print(f"dynamic-exit: {fault}", file=sys.stderr)
        raise typer.Exit(2)
    if as_json:
        print(json.dumps(found.recipe.model_dump(mode="json"), indent=2))
        return
    sizes = ", ".join(f"{len(split)} {key}" for key, split in found.run_inputs.splits.items())
    print(f"{path} is valid: {found.run_inputs.classes} classes, {sizes} samples, {found.candidates} candidates")
