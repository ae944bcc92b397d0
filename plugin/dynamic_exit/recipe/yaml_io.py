"""Reads recipes from YAML, validates them and writes them back."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ..errors import RecipeError
from ..passes import explain, third_party_passes_installed
from ..passes.quantization.config import known_algorithms
from ..trust.downloads import check_no_code
from .document import read_document
from .recipe import Recipe
from .static_passes import in_written_order, with_passes
from .target_registry import TARGETS


def parse_recipe(values: object, base: Path) -> Recipe:
    """Validate a recipe.

    Args:
        values: The stanzas.
        base: Folder that relative paths refer to.

    Returns:
        The recipe, with absolute paths.

    Raises:
        RecipeError: Describes the first mistake in one sentence.
    """
    if not isinstance(values, Mapping) or not values:
        reason = f"must be a mapping, not a {type(values).__name__}" if values else "is empty"
        raise RecipeError(f"the recipe {reason}; it needs the stanzas model, data, dynamic_exit and export")
    if third_party_passes_installed():
        known_algorithms()  # the import of Neural Compressor registers them, in names that it does not use itself
    try:
        recipe = with_passes(Recipe).model_validate(dict(values), context={"base": Path(base)})
    except ValidationError as error:
        raise RecipeError(explain(error)) from None
    TARGETS.find(recipe.export.target).check_quantization(recipe.quantization)
    recipe.choices  # noqa: B018  raises if a choice is invalid
    return recipe


def read_recipe(
    path: str | Path, overrides: Mapping[str, Any] | None = None, *, trust_remote_code: bool = False
) -> Recipe:
    """Read and validate a recipe file.

    Args:
        path: YAML file; paths in it are relative to its folder.
        overrides: Dotted key -> value, applied before validation, such as
            ``{"dynamic_exit.tuning.cost": "latency"}``.
        trust_remote_code: Whether a recipe in a folder that was downloaded from the hub may name code.

    Returns:
        The recipe, with absolute paths.

    Raises:
        RecipeError: The file is missing, not YAML, not a valid recipe, or was downloaded and names code.
    """
    values = read_stanzas(path)
    if not trust_remote_code:
        check_no_code(path, values)
    if isinstance(values, dict):
        order = list(values)
        for key, value in (overrides or {}).items() if values else ():
            set_key(values, key, value)
        if "quantization" in order:  # a pass that comes from an override has no place in the file: it runs before
            tail = {key: values.pop(key) for key in order[order.index("quantization") :]}
            values.update(tail)
    return parse_recipe(values, Path(path).parent)


def read_stanzas(path: str | os.PathLike[str]) -> object:
    """Return the content of a recipe file, not validated.

    Raises:
        RecipeError: The file is missing, not YAML, or holds a key twice.
    """
    document = read_document(path)
    if document.faults:
        raise RecipeError(document.faults[0].message)
    return document.values


def set_key(values: object, key: str, value: object) -> None:
    """Set the value at a dotted key of a recipe's content; stanzas on the way are made.

    Raises:
        RecipeError: Something on the way is no stanza.
    """
    *parents, last = key.split(".")
    for step in parents:
        if isinstance(values, dict) and values.get(step) is None:
            values[step] = {}
        values = values[step] if isinstance(values, dict) else None
    if not isinstance(values, dict):
        raise RecipeError(f"key '{key}' does not lead into a stanza; use dotted names such as dynamic_exit.tuning.cost")
    values[last] = value


def recipe_text(recipe: Recipe, folder: Path) -> str:
    """Return the recipe as YAML, with every default written out and paths relative to `folder`."""
    values = in_written_order(recipe, recipe.model_dump(mode="json", context={"base": str(Path(folder).absolute())}))
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)
