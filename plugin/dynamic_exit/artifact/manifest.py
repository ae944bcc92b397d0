"""`config.json` of a written folder, read without transformers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ExportError, first_line

CONFIG_FILE = "config.json"
MODEL_TYPE = "dynamic_exit"
#: Version of the folder's format that this program writes and the newest that it reads.
VERSION = 1
IMAGES, TEXT = "image-classification", "text-classification"
LAYOUTS, TARGETS = ("segments", "single"), ("onnxruntime", "torch")


@dataclass(frozen=True)
class Manifest:
    """What a folder holds, as far as running it goes.

    Attributes:
        task: ``image-classification`` or ``text-classification``.
        inputs: One entry for each input: ``{"name", "dtype", "shape"}``, the shape without batch; a free dimension is
            its name.
        stages: The chain's names before the final.
        layout: ``single`` (one ONNX file) or ``segments`` (one a stage).
        target: What runs the files: ``onnxruntime`` or ``torch``.
        checksums: Of the files with weights, by name in the folder: ``sha256:`` and the digest.
        labels: Names of the classes, in the order of the logits.
        max_tokens: The most tokens of a text that the model takes; None if any number, or unknown.
    """

    task: str
    inputs: Sequence[Mapping[str, Any]]
    stages: tuple[str, ...]
    layout: str
    target: str
    checksums: Mapping[str, str]
    labels: tuple[str, ...]
    max_tokens: int | None


def read_manifest(folder: Path) -> Manifest:
    """Read a folder's configuration.

    Raises:
        ExportError: It is missing, of something else, or of a newer version.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise incomplete(folder, CONFIG_FILE)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"'{path}' cannot be read: {first_line(error)}; export it anew") from error
    kind = values.get("model_type") if isinstance(values, dict) else None
    if kind != MODEL_TYPE:
        raise ExportError(f"'{folder}' holds a model of type '{kind}'; give one of type '{MODEL_TYPE}'")
    layout, target = values.get("layout", "single"), values.get("target", "onnxruntime")
    check_format(values.get("_version", VERSION), layout, target)
    inputs = values.get("inputs") or []
    names = values.get("id2label") or {}
    return Manifest(
        values.get("task") or task_of(inputs),
        inputs,
        tuple(values.get("stages") or ()),
        layout,
        target,
        values.get("checksums") or {},
        tuple(names[key] for key in sorted(names, key=int)),
        values.get("max_tokens"),
    )


def check_format(version: Any, layout: str, target: str) -> None:
    """Refuse what this program cannot read.

    Args:
        version: Of the folder's format.
        layout: As in `Manifest`.
        target: As in `Manifest`.

    Raises:
        ExportError: A newer version, an unknown layout or an unknown target.
    """
    if isinstance(version, int) and version > VERSION:
        raise ExportError(
            f"{CONFIG_FILE} is of version {version}, this program reads up to {VERSION}; use a newer dynamic_exit"
        )
    if layout not in LAYOUTS:
        raise ExportError(f"{CONFIG_FILE} names the layout '{layout}'; known are: {', '.join(LAYOUTS)}")
    if target not in TARGETS:
        raise ExportError(f"{CONFIG_FILE} names the target '{target}'; known are: {', '.join(TARGETS)}")


def task_of(inputs: Sequence[Mapping[str, Any]]) -> str:
    """Return the task of a model by its inputs: those of a tokenizer make it one for text."""
    return TEXT if any(each["name"] == "input_ids" for each in inputs) else IMAGES


def incomplete(folder: Path, name: str) -> ExportError:
    """Return the error for a file that is not there."""
    return ExportError(f"'{folder}' has no {name}; it is no complete dynamic model, export it anew")
