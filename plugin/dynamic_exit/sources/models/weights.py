"""Weights of models: read from files, and which of them no file gave."""

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

# names in a message before it says how many more there are
_NAMED = 3


@contextlib.contextmanager
def random_numbers(seed: int | None) -> Iterator[None]:
    """Let what is drawn inside follow from a seed, and leave the generators of the process as they were.

    Args:
        seed: 0 or larger; None changes nothing.
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
    """Put the weights of a file, or of a pruned model's folder, into a model.

    Args:
        model: Built for them; it is changed in place.
        path: ``.safetensors``, a torch file of plain tensors, or what `save_pruned` wrote.
        name: Of the model, for messages.

    Raises:
        ModelError: They cannot be read, or are not exactly the model's.
    """
    if path.is_dir():
        load_pruned(model, path)
        return
    if not path.is_file():
        raise ModelError(f"weights '{path}' do not exist; check the path")
    try:
        if path.suffix == ".safetensors":
            state = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each reader raises classes of its own
        if "weights_only" in str(error):  # torch advises to load such a file unsafely
            said = "are no torch file of plain tensors; save the model's state_dict"
            raise ModelError(f"weights '{path}' {said}") from None
        raise ModelError(f"weights '{path}' cannot be read: {first_line(error)}") from error
    state = state.get("state_dict", state) if isinstance(state, Mapping) else {}
    state = {key.removeprefix("module."): value for key, value in state.items()}
    wanted = model.state_dict()
    for key in [*wanted, *state]:
        if key not in state and key.endswith(".num_batches_tracked"):
            continue  # files of torch before 0.4.1 have none, and torch loads them
        here = tuple(wanted[key].shape) if key in wanted else None
        there = tuple(state[key].shape) if key in state else None
        if here != there:
            said = f"'{key}' is {_shape(there)} in the file and {_shape(here)} in the model"
            raise ModelError(f"weights '{path}' do not fit model '{name}': {said}; check its `arguments`")
    model.load_state_dict(state)


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else str(list(shape))


def check_trained(source: ModelSource, backbone: Classifier) -> str | None:
    """Refuse a backbone of which a part is random: it would answer, and nobody would know.

    Args:
        source: The backbone's stanza.
        backbone: As it was loaded.

    Returns:
        A note where all of a timm model is random, as it may be in a trial; None where its weights came from somewhere.

    Raises:
        ModelError: Some weights came from somewhere and others did not.
    """
    if not backbone.untrained:
        return None
    if source.source == "timm" and not source.arguments.get("pretrained"):
        return (
            f"the backbone '{source.name}' has no trained weights, so that its answers are random; give `weights`, or "
            "`pretrained: true` in its `arguments`"
        )
    raise ModelError(
        f"model '{source.name}' comes without trained weights for {listed(backbone.untrained)}, which would be random; "
        "fine-tune it first, or give the trained ones as `weights`"
    )


def listed(names: Sequence[str]) -> str:
    """Return the first names of several, quoted, and how many more there are."""
    more = len(names) - _NAMED
    said = ", ".join(f"'{name}'" for name in names[:_NAMED])
    return said if more <= 0 else f"{said} and {more} more"
