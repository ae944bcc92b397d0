"""Compression by recipe of a model in memory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ..errors import RecipeError
from ..hub import load_any
from ..hub.base import DynamicExitClassifier
from ..recipe.run import run
from ..recipe.schema import parse_recipe, read_recipe
from ..recipe.sources import Split, check_samples, refuse_overlaps


def compress(
    model: nn.Module,
    recipe: Mapping[str, Any] | str | Path,
    *,
    data: Mapping[str, tuple[np.ndarray | Mapping[str, np.ndarray], np.ndarray]] | None = None,
    say=lambda line: None,
) -> DynamicExitClassifier:
    """Compress a classifier by a recipe and load the result; the model itself stays as it was.

    Args:
        model: Maps (N, ...), or its inputs by name, to logits (N, C).
        recipe: A recipe file, or its stanzas as a mapping; without the stanza `model`, and without `data` where the
            samples are given here.
        data: ``train``, ``calibration`` and ``test``: inputs (N, ...), or several by the names under which the models
            take them, and labels int64 (N,), disjoint; None uses the recipe's.
        say: Takes one line for each step.

    Returns:
        The model that was written to the recipe's `export.directory`.

    Raises:
        DynamicExitError: One sentence on what cannot be done and why.
    """
    splits = None
    if data is not None:
        if set(data) != {"train", "calibration", "test"}:
            raise RecipeError(f"data must hold train, calibration and test; got {', '.join(data) or 'nothing'}")
        splits = {key: Split(key, *check_samples(*data[key], split=key)) for key in data}
        splits = refuse_overlaps(splits)
    if isinstance(recipe, Mapping):
        here = {"source": "python", "name": type(model).__name__}
        names = {"source": "python", "path": "memory", "splits": {key: key for key in ("train", "calibration", "test")}}
        values = {"model": here, **({"data": names} if splits else {}), **recipe}
        loaded = parse_recipe(values, Path.cwd())
    else:
        loaded = read_recipe(recipe)
    result = run(loaded, model=model, splits=splits, say=say)
    return load_any(result.folder)
