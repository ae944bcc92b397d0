"""Weights of models: loaded from files, and checks that they are trained."""

import contextlib
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...core.process_state import preserve_process_state
from ...errors import ModelError
from ...graph import Classifier
from ...passes import ModelSource
from ...passes.pruning import load_pruned
from .base import find_builder
from .checkpoints import find_weights

# names listed in a message before "and n more"
_MAX_NAMES = 3


@contextlib.contextmanager
def seeded_generators(seed: int | None) -> Iterator[None]:
    """Seed the random generators of torch, numpy and Python for a block, and restore them afterwards.

    Args:
        seed: At least 0; None changes nothing.
    """
    if seed is None:
        yield
        return
    with preserve_process_state():
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        yield


def load_weights(model: nn.Module, path: Path, name: str, key: str | None = None) -> str | None:
    """Load the weights of a file, or of a pruned model's folder, into a model.

    Args:
        model: Of the architecture that the weights are for; changed in place.
        path: ``.safetensors``, a torch file of plain tensors, or a folder that `save_pruned` wrote.
        name: The model's name, for messages.
        key: The entry of the file to take; None finds it.

    Returns:
        A note on what was taken of the file; None for a plain file of weights.

    Raises:
        ModelError: The weights cannot be read or do not fit the model exactly.
    """
    if path.is_dir():
        load_pruned(model, path)
        return None
    if not path.is_file():
        raise ModelError(f"weights '{path}' do not exist; check the path")
    expected = model.state_dict()
    state, note = find_weights(path, expected, key)
    unfit = f"weights '{path}' do not fit model '{name}'"
    if expected and not expected.keys() & state:
        raise ModelError(
            f"{unfit}: the file holds '{next(iter(state))}', the model '{next(iter(expected))}'; check its `arguments`"
        )
    for weight in [*expected, *state]:
        if weight not in state and weight.endswith(".num_batches_tracked"):
            continue  # files of torch before 0.4.1 have none, and torch loads them
        in_model = tuple(expected[weight].shape) if weight in expected else None
        in_file = tuple(state[weight].shape) if weight in state else None
        if in_model != in_file:
            difference = f"'{weight}' is {_shape(in_file)} in the file and {_shape(in_model)} in the model"
            raise ModelError(f"{unfit}: {difference}; {_remedy(weight, in_file, in_model, list(expected))}")
        content = weight in state and _unusable(state[weight], expected[weight])
        if content:
            raise ModelError(f"{unfit}: '{weight}' holds {content}; save the weights of a model in use")
    model.load_state_dict({weight: value.to_dense() if value.is_sparse else value for weight, value in state.items()})
    return note


def _remedy(
    weight: str, in_file: tuple[int, ...] | None, in_model: tuple[int, ...] | None, names: Sequence[str]
) -> str:
    """Say what to change: if only the rows of the last layer differ, the number of classes."""
    is_last = weight in names[-2:] and weight.rpartition(".")[0] == names[-1].rpartition(".")[0]
    if is_last and in_file and in_model and in_file[1:] == in_model[1:]:
        return f"give it {in_file[0]} classes in its `arguments` (timm calls them `num_classes`)"
    return "check its `arguments`"


def _unusable(given: Tensor, expected: Tensor) -> str | None:
    """Say what a tensor of a file holds where that cannot stand for a weight."""
    kinds = {
        "no values": given.is_meta,
        "complex numbers": given.is_complex() > expected.is_complex(),
        "quantized numbers": given.is_quantized > expected.is_quantized,
        "whole numbers": expected.is_floating_point() and not (given.is_floating_point() or given.is_quantized),
    }
    return next((kind for kind, found in kinds.items() if found), None)


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else str(list(shape))


def check_trained(source: ModelSource, backbone: Classifier) -> str | None:
    """Refuse a backbone with partly random weights, which would go unnoticed.

    Args:
        source: The backbone's stanza.
        backbone: As loaded.

    Returns:
        A note if weights are random and the source takes that for intended; None if the weights are trained.

    Raises:
        ModelError: Weights are random.
    """
    note = find_builder(source).explain_untrained() if backbone.untrained else None
    if note or not backbone.untrained:
        return note
    raise ModelError(
        f"model '{source.name}' comes without trained weights for {quote_names(backbone.untrained)}, which would be "
        "random; fine-tune it first, or give the trained ones as `weights`"
    )


def quote_names(names: Sequence[str]) -> str:
    """Return the first names, quoted, and the number of further ones."""
    more = len(names) - _MAX_NAMES
    quoted = ", ".join(f"'{name}'" for name in names[:_MAX_NAMES])
    return quoted if more <= 0 else f"{quoted} and {more} more"
