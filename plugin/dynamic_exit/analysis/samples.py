"""Loads samples that a written model is measured on."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from ..artifact.folder import RECIPE_FILE
from ..artifact.manifest import IMAGES, TEXT, Manifest, read_manifest
from ..data.checks import check_samples
from ..data.loading import encode_label_names, load_splits
from ..data.npz_source import read_npz
from ..data.reader import ReadRequest, Samples, SplitReader
from ..data.split import Split
from ..data.text_files import ENDINGS, is_text_file
from ..errors import DataError, RecipeError, nearest
from ..images import ImageFormat, ImageReading
from ..recipe.data import DATA_SOURCES
from ..recipe.yaml_io import read_recipe, read_stanzas
from ..sources.class_names import ClassNames

logger = logging.getLogger(__name__)


def load_samples(data: Path, folder: Path, trust_remote_code: bool = False) -> Split:
    """Load samples to evaluate a written model on.

    Args:
        data: ``.npz`` with inputs and labels, a text file, a folder of class folders with images, or a recipe, whose
            test split is used.
        folder: Written by a run: labels that are names are matched to those of its model, text is read as its recipe
            says, with its tokenizer.
        trust_remote_code: Whether a recipe in a folder that was downloaded from the hub may name code.

    Returns:
        The samples.

    Raises:
        DataError: They cannot be read, or have classes that the model does not have.
        RecipeError: The recipe is not valid, or was downloaded and names code.
    """
    manifest = read_manifest(folder)
    served = partial(_served_format, folder, manifest)
    if data.suffix == ".npz":
        samples: dict[str, Samples] = {"data": read_npz(data)}
        found = encode_label_names(samples, lambda: None)
        split = Split("data", *check_samples(*samples["data"], split="data"), found)
    elif data.suffix in (".yaml", ".yml"):
        recipe = read_recipe(data, trust_remote_code=trust_remote_code)
        reading = ImageReading(served, recipe.dynamic_exit.cache.open())
        split = load_splits(recipe.data, recipe.seed, recipe.model, note=_log, images=reading)["test"]
    elif data.is_dir() or is_text_file(data):
        split = _load_path(data, folder, manifest, ImageReading(served))
    else:
        raise DataError(
            f"data '{data}' must be an .npz file with inputs and labels, a text file ({', '.join(ENDINGS)}), a folder "
            "of class folders with images, or a recipe"
        )
    names = split.class_names
    return split if names is None else _match_classes(split, names, manifest.labels)


def _load_path(data: Path, folder: Path, manifest: Manifest, images: ImageReading) -> Split:
    """Load a text file, or a folder of class folders."""
    kind, task = ("imagefolder", IMAGES) if data.is_dir() else ("text", TEXT)
    if manifest.task != task:
        raise DataError(f"data '{data}' is for {task}, the model in '{folder}' for {manifest.task}")
    place, name = str(data.absolute().parent), data.name
    values = {"source": kind, "path": place, "splits": {"train": name, "calibration": name, "test": name}}
    if kind == "text":
        values |= {"path": str(data.absolute()), "text": {**text_options(folder), "tokenizer": str(folder.absolute())}}
    found = DATA_SOURCES.find(kind)
    known = ClassNames(manifest.labels, from_recipe=False) if kind == "text" else None
    # named twice: of one folder alone, no class could be in another one
    request = ReadRequest([name, name], None, lambda: known, _log, images)
    read: SplitReader = found.make(found.stanza.model_validate(values), request)
    names = getattr(read, "class_names", None)
    inputs, labels = read(name)
    return Split("data", *check_samples(inputs, labels, "data"), names and tuple(names))


def text_options(folder: Path) -> dict[str, object]:
    """Return how the recipe in a written folder reads text; empty if it is not there, or reads none."""
    try:
        stanzas = read_stanzas(folder / RECIPE_FILE)
    except RecipeError:
        return {}
    data = stanzas.get("data") if isinstance(stanzas, dict) else None
    options = data.get("text") if isinstance(data, dict) else None
    return dict(options) if isinstance(options, dict) else {}


def _log(line: str) -> None:
    logger.info(f"note: {line}")


def _served_format(folder: Path, manifest: Manifest, size: tuple[int, int] | None) -> ImageFormat:
    """Return the form in which a written folder takes images, whatever their size."""
    from ..artifact.image_processor import read_resizing

    shape = next((each["shape"] for each in manifest.inputs or [] if len(each["shape"]) == 3), [3])
    return ImageFormat(1 if shape[0] == 1 else 3, read_resizing(folder))


def _match_classes(split: Split, names: Sequence[str], served: Sequence[str]) -> Split:
    """Number labels that are names as the model does, or refuse classes that it does not have.

    Args:
        split: The samples.
        names: What their labels stand for.
        served: What the model calls its classes.
    """
    unknown = [name for name in names if name not in served]
    if unknown and (len(unknown) < len(names) or len(names) != len(served)):
        hint = nearest(unknown[0], served)[:200]
        raise DataError(f"the samples have a class '{unknown[0]}', which the model does not serve; {hint}")
    if unknown:  # all have other names, as the run itself allows: matched by order
        return split
    place = np.asarray([list(served).index(name) for name in names])
    return replace(split, labels=place[split.labels], class_names=tuple(served))
