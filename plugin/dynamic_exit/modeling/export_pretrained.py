"""Compresses a transformers model by a recipe, for `from_pretrained(..., export=True)`."""

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

_TASKS = {"imagefolder": IMAGES, "text": TEXT}


def export_pretrained(
    model_id: str | os.PathLike,
    recipe: Recipe | Mapping[str, Any] | str | os.PathLike | None,
    task: str,
    *,
    revision: str | None = None,
    token: bool | str | None = None,
    **hub: Any,
) -> tuple[Path, tempfile.TemporaryDirectory | None]:
    """Compress a transformers model.

    Args:
        model_id: Its folder, or its id on the hub.
        recipe: A file, a mapping (paths in it are relative to the working directory) or a `Recipe`. What it leaves
            out is filled in: `model.source` and `model.name` by `model_id`, `export.directory` by a temporary folder.
        task: What the caller's class is for.
        revision: Branch, tag or commit on the hub.
        token: Only None or True: the one that is logged in. A recipe is written to the folder and holds no secrets.
        **hub: Refused.

    Returns:
        The folder, and the temporary folder that it lies in, if any.

    Raises:
        ExportError: No recipe came in.
        RecipeError: The recipe names another model, or an option cannot be used.
        DynamicExitError: What cannot be compressed and why.
    """
    if recipe is None:
        raise ExportError("export=True needs a recipe; give recipe= a file, a mapping or a Recipe")
    unused = [name for name, value in hub.items() if value]
    if unused or isinstance(token, str):
        what = unused[0] if unused else "token"
        raise RecipeError(f"'{what}' cannot be given with export=True; download the model first, and give its folder")
    name = str(Path(model_id).absolute()) if Path(model_id).is_dir() else str(model_id)
    if isinstance(recipe, Recipe):
        values, base = recipe.model_dump(mode="json"), Path.cwd()
    elif isinstance(recipe, Mapping):
        values, base = dict(recipe), Path.cwd()
    else:
        values, base = read_stanzas(recipe), Path(recipe).parent
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
    certain = _TASKS.get(parsed.data.source, task)  # of other sources the model's inputs tell, once they are known
    if certain != task:
        raise RecipeError(f"the recipe is for {certain}, the class that loads it for {task}; use the other")
    return run(parsed).folder, temporary


def _stanza(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = values.get(key) or {}
    if not isinstance(found, Mapping):
        raise RecipeError(f"key '{key}' must be a mapping; got {found!r}")
    return dict(found)
