"""The configuration of a written folder (`config.json`), read without transformers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

from ..errors import ExportError, first_line

CONFIG_FILE = "config.json"
MODEL_TYPE = "dynamic_exit"
#: Version of the folder format: written by this program, and the newest that it reads.
VERSION = 1
IMAGES, TEXT = "image-classification", "text-classification"
LAYOUTS, TARGETS = ("segments", "single"), ("onnxruntime", "torch")


class InputSpec(TypedDict):
    """An input of a model.

    Attributes:
        name: Its name.
        dtype: NumPy's name of its dtype.
        shape: Its shape without the batch; a free dimension is its name.
    """

    name: str
    dtype: str
    shape: list[int | str]


class PartEntry(TypedDict):
    """A file of the layout ``segments``.

    Attributes:
        file: Its path in the folder.
        takes: Names of its inputs.
        name: Name of the stage, for savers and exits.
        position: Index of the segment behind which it runs, for exits and taps.
    """

    file: str
    takes: list[str]
    name: NotRequired[str]
    position: NotRequired[int]


@dataclass(frozen=True)
class Manifest:
    """The part of a folder's configuration that running the model needs.

    Attributes:
        task: ``image-classification`` or ``text-classification``.
        inputs: The model's inputs.
        stages: Names of the stages before the final one.
        layout: ``single`` (one ONNX file) or ``segments`` (one file per stage).
        target: Runtime of the files: ``onnxruntime`` or ``torch``.
        checksums: File name -> ``sha256:`` and the digest, of the files with weights.
        labels: Class names in the order of the logits.
        max_tokens: Maximum number of tokens that the model takes; None if unlimited or unknown.
    """

    task: str
    inputs: Sequence[InputSpec]
    stages: tuple[str, ...]
    layout: str
    target: str
    checksums: Mapping[str, str]
    labels: tuple[str, ...]
    max_tokens: int | None


def read_manifest(folder: Path) -> Manifest:
    """Read a folder's configuration.

    Raises:
        ExportError: It is missing, of another type of model, or of a newer version.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise missing_file(folder, CONFIG_FILE)
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
        values.get("task") or infer_task(inputs),
        inputs,
        tuple(values.get("stages") or ()),
        layout,
        target,
        values.get("checksums") or {},
        tuple(names[key] for key in sorted(names, key=int)),
        values.get("max_tokens"),
    )


def check_format(version: object, layout: str, target: str) -> None:
    """Check that this program can read a folder.

    Args:
        version: Version of the folder format.
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


def infer_task(inputs: Sequence[InputSpec]) -> str:
    """Infer the task of a model from its inputs: text if it takes token indices, else images."""
    return TEXT if any(each["name"] == "input_ids" for each in inputs) else IMAGES


def missing_file(folder: Path, name: str) -> ExportError:
    """Return the error for a missing file."""
    return ExportError(f"'{folder}' has no {name}; it is no complete dynamic model, export it anew")
