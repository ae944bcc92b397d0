"""Saving and loading of models that were compressed in memory, without pickle and without the model's code."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...core.atomic_write import atomic_write
from ...core.placement import device_of
from ...errors import ModelError, OutputError
from ...graph import Classifier, evaluation_mode, export_program
from ...modeling.auto import AutoDynamicExitModel
from ...modeling.base import DynamicExitClassifier
from ...runtime.archive import CONFIG, ArchivedPart, load_model, pack, save_model, unpack
from ...runtime.model import DynamicExitModel
from .in_place import unwrap

_TYPE, _VERSION = "dynamic_exit.static_model", 1
_STATIC, _PART = "static_model.json", "model.pt2"


class StaticModel(ArchivedPart):
    """A loaded model without stages; it is always in evaluation mode."""

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """Return logits (N, C) for the inputs, by position or by name, in the order of the example inputs."""
        logits: Tensor = self.body(*inputs, *named.values())
        return logits


def save(model: nn.Module, folder: str | Path, example_inputs: Any = None) -> None:
    """Save the result of `compress` or of Neural Compressor's `quantize`.

    Args:
        model: Dynamic, quantized, pruned or plain.
        folder: New or empty.
        example_inputs: Inputs of the model with at least two rows: a tensor, several in order, or by name. Not needed
            for a dynamic model that was made in this process.

    Raises:
        ModelError: Example inputs are missing.
        OutputError: The folder is not empty or cannot be written.
        CaptureError: A part cannot be exported.
    """
    folder, model = Path(folder), unwrap(model)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"'{folder}' is not an empty folder; give a new one")
    if isinstance(model, DynamicExitClassifier):
        model.save_pretrained(folder)
        return
    if example_inputs is None and isinstance(model, DynamicExitModel):
        example_inputs = getattr(model.segments[0], "example_inputs", None)
    if example_inputs is None:
        raise ModelError("a model is saved as a graph, for which `example_inputs` are needed; give two rows of them")
    keywords = [*example_inputs] if isinstance(example_inputs, Mapping) else None
    inputs = example_inputs.values() if keywords else example_inputs
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    try:
        if isinstance(model, DynamicExitModel):
            save_model(model, folder, inputs)
        else:
            _save_static(model, keywords, inputs, folder)
    except OSError as error:
        raise OutputError(f"'{folder}' cannot be written: {error.strerror or error}") from error


def load(folder: str | Path) -> DynamicExitModel | StaticModel | DynamicExitClassifier:
    """Load a model that `save` or a recipe wrote.

    Returns:
        A model that answers bit for bit as the saved one, at the same thresholds; without stages it returns logits
        (N, C).

    Raises:
        ModelError: The folder holds no such model, one of another version, or pickled objects.
    """
    folder = Path(folder)
    if (folder / CONFIG).exists():
        return load_model(folder)
    if not (folder / _STATIC).exists():
        return AutoDynamicExitModel.from_pretrained(folder)
    try:
        config = json.loads((folder / _STATIC).read_text(encoding="utf-8"))
        found = (config["_type"], config["_version"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ModelError(f"'{folder / _STATIC}' is damaged; save the model anew") from error
    if found != (_TYPE, _VERSION):
        raise ModelError(f"'{folder / _STATIC}' is of version {found[1]}; this version reads {_VERSION}")
    return StaticModel(unpack(folder / _PART, None).body)


def _save_static(model: nn.Module, keywords: list[str] | None, inputs: tuple[Tensor, ...], folder: Path) -> None:
    with evaluation_mode(model), torch.no_grad():
        classifier = Classifier(model, keywords=keywords)
        inputs = tuple(each.to(device_of(model)) for each in inputs)
        classifier(*inputs)  # weight-only layers unpack at their first call, which they cannot do in a graph
        program = export_program(classifier, inputs)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / _PART) as file:
        file.write(pack(program))
    with atomic_write(folder / _STATIC) as file:
        file.write((json.dumps({"_type": _TYPE, "_version": _VERSION}) + "\n").encode())
