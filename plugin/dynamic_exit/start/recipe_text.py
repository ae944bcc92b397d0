"""Writes the recipe for what was found, with a comment on each choice."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..errors import RecipeError
from ..recipe.target_registry import TARGETS
from .look import Found

# several: the run measures them beside float, which a single one would replace unmeasured
_QUANTIZATION: dict[str, Any] = {"static_quant": {}, "pt2e_dynamic_quant": {}}
SCHEMA_FILE = "recipe.schema.json"


def starting_recipe(found: Found, *, file: Path, output: Path, drop: float, target: str, seed: int = 0) -> str:
    """Return the recipe as YAML with comments; it runs as it is.

    Args:
        found: Model and data.
        file: Where it is to be written; paths become relative to its folder.
        output: The folder that the run writes.
        drop: The accuracy that may be lost, a share.
        target: What runs the model.
        seed: Of the recipe.
    """
    base = file.absolute().parent
    model = {**found.model.stanza, **({"preprocessing": found.preprocessing} if found.preprocessing else {})}
    model = _with_paths(model, base)
    data = {
        "source": found.data.source,
        "path": _relative(found.data.path, base, Path(found.data.path).expanduser().exists()),
        "splits": dict(found.data.splits.names),
        **found.data.keys,
    }
    candidates = [_with_paths(each, base) for each in found.candidates]
    lines = [
        f"# yaml-language-server: $schema={SCHEMA_FILE}",
        *(f"# {line}" for line in found.lines),
        f"# Check it with `dynamic-exit validate {file.name}`, run it with `dynamic-exit run {file.name}`.",
        f"seed: {seed}  # the same seed draws the same samples and gives the same model",
        "",
        "model:  # the trained model, whose accuracy is kept",
        *_entries(model, _MODEL_COMMENTS),
        "",
        "data:",
        *(_DRAWN if found.data.splits.drawn else ()),
        *_entries(data, _DATA_COMMENTS),
        "",
        *_quantization(target),
        "dynamic_exit:",
        *_savers(candidates),
        "  early_exit: {}  # small heads inside the model, at the places where they pay",
        "  tuning:",
        f"    max_accuracy_drop: {drop}  # a share: 0.005 is half a point",
        "    # guarantee: 0.95       # a drop that holds with this probability; needs thousands of calibration samples",
        "    # cost: latency         # measured seconds instead of multiply-adds",
        "",
        "export:",
        f"  directory: {_scalar(_relative(str(output), base, True))}  # the folder to serve",
        f"  target: {_scalar(target)}",
    ]
    return "\n".join(lines) + "\n"


_MODEL_COMMENTS = {
    "arguments": "of the function that builds it",
    "preprocessing": "becomes a part of the exported file",
}
_DATA_COMMENTS = {
    "splits": "train: heads and savers learn; calibration: thresholds; test: every reported figure",
    "stratify": "each part has as much of every class",
    "duplicates": "copies of test samples are left out of the other splits",
    "text": "add max_length: 128 to cut long texts, which takes less time",
}
_DRAWN = (
    "  # The splits are drawn by the seed. Samples that the model was trained on flatter it: if it knows some of",
    "  # these, name others for calibration and test.",
)


def _entries(stanza: Mapping[str, Any], comments: Mapping[str, str]) -> list[str]:
    return [
        f"  {key}: {_scalar(value)}" + (f"  # {comments[key]}" if key in comments else "")
        for key, value in stanza.items()
        if value not in ({}, None) or key == "text"
    ]


def _savers(candidates: list[dict[str, Any]]) -> list[str]:
    if not candidates:
        return ["  tiny_saver: {}  # small models that answer first; they are made here and learn from the model"]
    return [
        "  tiny_saver:  # small models that answer first; those that pay are taken",
        "    candidates:",
        *(f"      - {_scalar(each)}" for each in candidates),
        "      # - {make: auto}      # and others, which are made here and learn from the model",
    ]


def _quantization(target: str) -> list[str]:
    try:
        TARGETS.find(target).check_quantization(_QUANTIZATION)
    except RecipeError:
        return ["# quantization: {static_quant: {}}  # 8 bits, which save time where `export.compile` is true", ""]
    lines = [f"  {name}: {_scalar(options)}" for name, options in _QUANTIZATION.items()]
    return ["quantization:  # each is measured beside float; the fastest that keeps accuracy is taken", *lines, ""]


def _scalar(value: object) -> str:
    """Return a value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")


def _with_paths(model: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """Make the paths of a model relative to the recipe's folder."""
    changed = {**model, "name": _relative(str(model["name"]), base, model["source"] == "onnx")}
    return {**changed, "weights": _relative(str(model["weights"]), base, True)} if "weights" in model else changed


def _relative(name: str, base: Path, is_path: bool = False) -> str:
    """Return a path relative to the recipe's folder; names that do not look like paths stay as they are."""
    if name.startswith("local-dir:"):
        return "local-dir:" + _relative(name.removeprefix("local-dir:"), base, True)
    file, colon, function = name.partition(".py:")
    if not (is_path or colon or name.startswith(("/", ".", "~"))):
        return name
    path = Path(f"{file}.py" if colon else name).expanduser()
    relative = os.path.relpath(path.absolute(), base)
    if not (colon or is_path or relative.startswith(".")):
        relative = f"./{relative}"  # a bare name would be taken for one of the hub
    return f"{relative}:{function}" if colon else relative
