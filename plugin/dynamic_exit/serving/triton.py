"""Folders in a model repository of NVIDIA Triton, for its backend onnxruntime."""

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..artifact.folder import MODEL_FILE, as_path, cannot_write
from ..artifact.manifest import InputSpec
from ..artifact.standalone import load_runner
from ..errors import ExportError, InputError, WriteError
from ..recipe.target_registry import DEFAULT_TARGET
from .model import shape_of
from .protocol import VERSION, metadata

CONFIG_FILE = "config.pbtxt"


def write_triton_model(
    folder: str | os.PathLike[str],
    repository: str | os.PathLike[str],
    name: str | None = None,
    max_batch: int = 64,
) -> Path:
    """Write ``NAME/config.pbtxt`` and ``NAME/1/model.onnx`` into a model repository of Triton.

    Args:
        folder: A folder that ``dynamic-exit run`` wrote, of ``layout: single`` and for onnxruntime.
        repository: Folder that Triton serves; it is made if it is not there.
        name: Name of the model in Triton; None is the folder's own.
        max_batch: Rows that Triton may put together, of several requests at a time, all at the folder's default
            operating point. 0: it puts nothing together, and a request may bring ``thresholds``.

    Returns:
        The model's place in the repository.

    Raises:
        DynamicExitError: As for `load_runner`.
        ExportError: The folder holds another file than Triton takes.
        InputError: `name` cannot name a folder, or `max_batch` is negative.
        WriteError: A model of this name is there, or the repository cannot be written.
    """
    runner, source = load_runner(folder), as_path(folder)
    manifest = runner.manifest
    if (manifest.layout, manifest.target) != ("single", DEFAULT_TARGET):
        raise ExportError(
            f"'{source}' is for {manifest.target} with layout: {manifest.layout}; Triton takes one file: export the "
            f"recipe with target: {DEFAULT_TARGET} and layout: single"
        )
    if max_batch < 0:
        raise InputError(f"max_batch must be at least 0, which puts nothing together; got {max_batch}")
    name = source.resolve().name if name is None else name
    if name != Path(name).name or name in ("", ".."):
        raise InputError(f"'{name}' cannot name a model in a repository; give the name of one folder")
    config = triton_config(name, manifest.inputs, len(manifest.labels), len(runner.stages), max_batch)
    place = as_path(repository) / name
    try:
        place.mkdir(parents=True)
    except FileExistsError as error:
        raise WriteError(f"'{place}' is there already; give another name, or remove it") from error
    except OSError as error:
        raise cannot_write(place, error) from error
    try:
        (place / VERSION).mkdir()
        for file in (MODEL_FILE, f"{MODEL_FILE}.data"):
            if (source / file).exists():
                shutil.copyfile(source / file, place / VERSION / file)
        (place / CONFIG_FILE).write_text(config, encoding="utf-8")
    except BaseException as error:
        shutil.rmtree(place, ignore_errors=True)  # a model in part would be loaded
        if isinstance(error, OSError):
            raise cannot_write(place, error) from error
        raise
    return place


def triton_config(name: str, inputs: Sequence[InputSpec], classes: int, stages: int, max_batch: int) -> str:
    """Return what Triton needs to know of a model, as the text of a ``ModelConfig``.

    Args:
        name: Of the model.
        inputs: Its inputs.
        classes: Number of classes.
        stages: Number of stages before the final one.
        max_batch: As for `write_triton_model`.
    """
    specs = [(spec["name"], spec["dtype"], shape_of(spec)) for spec in inputs]
    known = metadata(name, DEFAULT_TARGET, specs, classes)
    given = [_tensor(each, max_batch) for each in known["inputs"]]
    if stages and not max_batch:  # Triton takes optional inputs only where it puts nothing together
        given.append(_tensor({"name": "thresholds", "datatype": "FP32", "shape": [stages]}, max_batch, optional=True))
    lines = [f"name: {_quoted(name)}", 'backend: "onnxruntime"', f"max_batch_size: {max_batch}"]
    lines += _listed("input", given)
    lines += _listed("output", [_tensor(each, max_batch) for each in known["outputs"]])
    lines += ["dynamic_batching { }"] if max_batch else []
    return "\n".join([*lines, "instance_group [ { count: 1 kind: KIND_CPU } ]", ""])


def _listed(key: str, tensors: Iterable[str]) -> list[str]:
    return [f"{key} [", ",\n".join(f"  {{ {each} }}" for each in tensors), "]"]


def _tensor(tensor: dict[str, Any], max_batch: int, optional: bool = False) -> str:
    """Return the description of a tensor; where Triton knows of batches, its shape goes without them."""
    shape = tensor["shape"][1:] if max_batch else tensor["shape"]
    # no tensor of Triton is without dimensions: one of (N,) is given as (N, 1) there
    reshape = "" if shape else " reshape { shape: [ ] }"
    dims = ", ".join(map(str, shape or [1]))
    tail = " optional: true" if optional else ""
    return f"name: {_quoted(tensor['name'])} data_type: TYPE_{tensor['datatype']} dims: [ {dims} ]{reshape}{tail}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
