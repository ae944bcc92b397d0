"""Compresses a transformers model with a recipe, for `from_pretrained(..., export=True)`."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..artifact.manifest import IMAGES, TEXT
from ..errors import ExportError, RecipeError
from ..pipeline.run import run
from ..recipe.recipe import Recipe
from ..recipe.yaml_io import parse_recipe, read_stanzas
from ..trust.downloads import check_no_code

_TASKS = {"imagefolder": IMAGES, "text": TEXT}


def export_pretrained(
    model_id: str | os.PathLike[str],
    recipe: Recipe | Mapping[str, Any] | str | os.PathLike[str] | None,
    task: str,
    *,
    revision: str | None = None,
    token: bool | str | None = None,
    **hub: object,
) -> tuple[Path, tempfile.TemporaryDirectory[str] | None]:
    """Compress a transformers model.

    Args:
        model_id: The model's folder, or its id on the hub.
        recipe: A file, the stanzas (with paths relative to the working directory) or a `Recipe`. Defaults for what it
            omits: `model_id` for `model.source` and `model.name`, a temporary folder for `export.directory`.
        task: Task of the caller's class.
        revision: Branch, tag or commit on the hub.
        token: None or True only, the logged-in user's: the recipe is written to the folder and must hold no secrets.
        **hub: Further options, all refused.

    Returns:
        The folder, and the temporary folder that contains it, if any.

    Raises:
        ExportError: The recipe is missing.
        RecipeError: The recipe names another model, was downloaded and names code, or an option is not supported.
        DynamicExitError: The model cannot be compressed.
    """
    if recipe is None:
        raise ExportError("export=True needs a recipe; give recipe= a file, a mapping or a Recipe")
    unused = [name for name, value in hub.items() if value]
    if unused or isinstance(token, str):
        what = unused[0] if unused else "token"
        raise RecipeError(f"'{what}' cannot be given with export=True; download the model first, and give its folder")
    name = str(Path(model_id).absolute()) if Path(model_id).is_dir() else str(model_id)
    values: object
    if isinstance(recipe, Recipe):
        values, base = recipe.model_dump(mode="json"), Path.cwd()
    elif isinstance(recipe, Mapping):
        values, base = dict(recipe), Path.cwd()
    else:
        values, base = read_stanzas(recipe), Path(recipe).parent
        check_no_code(recipe, values)
    if not isinstance(values, Mapping):
        raise RecipeError("the recipe must be a mapping of stanzas; it needs at least data and dynamic_exit")
    model = {"source": "transformers", "name": name, **_stanza(values, "model")}
    same = model["name"] == name or Path(base, model["name"]).resolve() == Path(name).resolve()
    if model["source"] != "transformers" or not same:
        raise RecipeError(f"the recipe is for the model '{model['name']}', not for '{name}'; leave its `model` out")
    if revision is not None:
        model["arguments"] = {**_stanza(model, "arguments"), "revision": revision}
    export, temporary = _stanza(values, "export"), None
    if "directory" not in export:
        temporary = tempfile.TemporaryDirectory(prefix="dynamic_exit_")
        export["directory"] = str(Path(temporary.name, Path(name).name))
    parsed = parse_recipe({**values, "model": model, "export": export}, base)
    known = _TASKS.get(parsed.data.source, task)  # other sources do not determine the task, the model's inputs do
    if known != task:
        raise RecipeError(f"the recipe is for {known}, the class that loads it for {task}; use the other")
    return run(parsed).folder, temporary


def _stanza(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    stanza = values.get(key) or {}
    if not isinstance(stanza, Mapping):
        raise RecipeError(f"key '{key}' must be a mapping; got {stanza!r}")
    return dict(stanza)
