"""Weights of models: loaded from files, and checks that they are trained."""

import contextlib
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import nn

from ...core.process_state import preserve_process_state
from ...errors import ModelError, first_line
from ...graph import Classifier
from ...passes import ModelSource
from ...passes.pruning import load_pruned
from .base import find_builder

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


def load_weights(model: nn.Module, path: Path, name: str) -> None:
    """Load the weights of a file, or of a pruned model's folder, into a model.

    Args:
        model: Of the architecture that the weights are for; changed in place.
        path: ``.safetensors``, a torch file of plain tensors, or a folder that `save_pruned` wrote.
        name: The model's name, for messages.

    Raises:
        ModelError: The weights cannot be read or do not fit the model exactly.
    """
    if path.is_dir():
        load_pruned(model, path)
        return
    if not path.is_file():
        raise ModelError(f"weights '{path}' do not exist; check the path")
    try:
        content: object
        if path.suffix == ".safetensors":
            content = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each reader raises classes of its own
        if "weights_only" in str(error):  # torch advises to load such a file unsafely
            raise ModelError(
                f"weights '{path}' are no torch file of plain tensors; save the model's state_dict"
            ) from None
        raise ModelError(f"weights '{path}' cannot be read: {first_line(error)}") from error
    entries = content.get("state_dict", content) if isinstance(content, Mapping) else {}
    state = {key.removeprefix("module."): value for key, value in entries.items()}
    expected = model.state_dict()
    for key in [*expected, *state]:
        if key not in state and key.endswith(".num_batches_tracked"):
            continue  # files of torch before 0.4.1 have none, and torch loads them
        in_model = tuple(expected[key].shape) if key in expected else None
        in_file = tuple(state[key].shape) if key in state else None
        if in_model != in_file:
            difference = f"'{key}' is {_shape(in_file)} in the file and {_shape(in_model)} in the model"
            raise ModelError(f"weights '{path}' do not fit model '{name}': {difference}; check its `arguments`")
    model.load_state_dict(state)


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
