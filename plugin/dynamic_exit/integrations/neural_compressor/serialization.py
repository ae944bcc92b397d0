"""Saving and loading of models that were compressed in memory, without pickle and without the model's code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...artifact.folder import POINTS_FILE, check_files
from ...artifact.manifest import read_manifest
from ...artifact.saved_model import load_model, save_model, save_parts
from ...artifact.version1 import SAVED_MODEL_FILE
from ...chain.spec import ChainSpec
from ...core.placement import device_of
from ...errors import ModelError, OutputError
from ...graph import Classifier, evaluation_mode, export_program
from ...modeling.auto import AutoDynamicExitModel
from ...modeling.base import DynamicExitClassifier
from ...runtime.archive import ArchivedPart, unpack
from ...runtime.model import DynamicExitModel
from .in_place import unwrap

# files of a model without stages as version 1 saved it, and as this one does
_VERSION_1, _PART = ("static_model.json", "model.pt2"), "segment0"


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
        ExportError: The folder holds no such model, or one of a newer version.
        ModelError: It holds pickled objects.
    """
    folder = Path(folder)
    if (folder / SAVED_MODEL_FILE).exists():
        return load_model(folder)
    if all((folder / name).exists() for name in _VERSION_1):
        return StaticModel(unpack(folder / _VERSION_1[1], None).body)
    manifest = read_manifest(folder)
    if manifest.thresholds is not None:
        return load_model(folder)
    if manifest.chain is None or manifest.stages or (folder / POINTS_FILE).exists():
        return AutoDynamicExitModel.from_pretrained(folder)
    check_files(folder, manifest, manifest.files.values())
    return StaticModel(unpack(folder / manifest.files[_PART], None).body)


def _save_static(model: nn.Module, keywords: list[str] | None, inputs: tuple[Tensor, ...], folder: Path) -> None:
    with evaluation_mode(model), torch.no_grad():
        classifier = Classifier(model, keywords=keywords)
        inputs = tuple(each.to(device_of(model)) for each in inputs)
        classifier(*inputs)  # weight-only layers unpack at their first call, which they cannot do in a graph
        program = export_program(classifier, inputs)
    names = tuple(keywords or (f"input{place}" for place in range(len(inputs))))
    save_parts(folder, ChainSpec(inputs=names, segments=(names,)), {_PART: program}, inputs)
