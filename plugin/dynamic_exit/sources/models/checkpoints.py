"""Weights in checkpoints: the entry that holds them, without the names of what the model was wrapped in."""

import argparse
import re
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from torch import Tensor

from ...errors import ModelError, first_line, nearest, pointer_hint

State = dict[str, Tensor]
# added by torch.compile to the names of a compiled module, wherever that stands
_COMPILED = "_orig_mod."
# files of torch before 0.4.1 have none, and torch loads them
_OPTIONAL = "num_batches_tracked"
_WHOLE = ""
# what training programs call the module that holds the model, beside which others may stand
_HOLDERS = (
    "module",
    "model",
    "net",
    "network",
    "_forward_module",
    "ema",
    "ema_model",
    "model_ema",
    "student",
    "teacher",
)


class FoundWeights(NamedTuple):
    """The weights of a model in a checkpoint.

    Attributes:
        state: Name of a weight in the model, as far as it is there -> the weight.
        note: What was taken of the checkpoint, and what is beside it; None for a plain file of weights.
    """

    state: State
    note: str | None


class _Place(NamedTuple):
    """Where weights may be: an entry of the file, and what their names begin with."""

    entry: str
    prefix: str

    @property
    def name(self) -> str:
        return ".".join(filter(None, [self.entry, self.prefix.removesuffix(".")]))

    @property
    def is_average(self) -> bool:
        return any(word in ("ema", "swa") or word.startswith("averag") for word in re.split(r"[._]", self.name.lower()))


def find_weights(path: Path, expected: Collection[str], key: str | None = None) -> FoundWeights:
    """Find the weights of a model in a file; training programs wrap them in entries and prefixes of their own.

    Args:
        path: ``.safetensors``, or a torch file of plain tensors.
        expected: Names of the model's weights.
        key: The entry to take; None takes the only one that fits, and of several those that are no averages.

    Returns:
        The weights; those of the largest entry if none fits.

    Raises:
        ModelError: The file cannot be read, holds no weights, or has several entries that fit.
    """
    states = {name: _uncompiled(state) for name, state in _states(_read(path), _WHOLE).items()}
    if not states:
        raise ModelError(f"weights '{path}' hold no weights by name; save the model's state_dict")
    needed = [name for name in expected if not name.endswith(_OPTIONAL)]
    fitting = [_Place(entry, prefix) for entry, state in states.items() for prefix in _prefixes(state, needed)]
    if key is not None:
        chosen = [place for place in fitting if key in (place.entry, place.name, place.prefix.removesuffix("."))]
        if not chosen:
            hint = nearest(key, [place.name for place in fitting if place.name])
            raise ModelError(f"weights '{path}' have no entry '{key}' that fits the model; {hint}")
    else:
        chosen = [place for place in fitting if not place.is_average] or fitting
        if len(chosen) > 1:
            names = ", ".join(f"'{place.name or 'the whole file'}'" for place in chosen)
            raise ModelError(f"weights '{path}' hold several that fit the model: {names}; name one as `weights_key`")
    if not chosen:
        return FoundWeights(_unheld(max(states.values(), key=len)), None)
    taken, *others = sorted(fitting, key=lambda place: place != chosen[0])
    beside = tuple(place.prefix for place in others if place.entry == taken.entry and place.prefix != taken.prefix)
    state = {name: value for name, value in states[taken.entry].items() if not (beside and name.startswith(beside))}
    return FoundWeights(_strip(state, taken.prefix), _describe(path, taken, others))


def _describe(path: Path, taken: _Place, others: list[_Place]) -> str | None:
    if not taken.name and not others:
        return None
    averages = "averages, " if taken.is_average else ""
    said = f"of '{path}' {averages}'{taken.name or 'the whole file'}' was taken as the weights"
    beside = ", ".join(f"'{place.name or 'the whole file'}'" for place in others)
    return f"{said}; beside it is {beside}: `weights_key` chooses" if others else said


def _read(path: Path) -> object:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with torch.serialization.safe_globals([argparse.Namespace]):  # the options of many training programs
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each reader raises classes of its own
        if "weights_only" in str(error) and not pointer_hint(path):  # torch advises to load such a file unsafely
            raise ModelError(
                f"weights '{path}' are no torch file of plain tensors; save the model's state_dict"
            ) from None
        raise ModelError(f"weights '{path}' cannot be read: {_reason(path, error)}") from error


def _reason(path: Path, error: Exception) -> str:
    """Say why a file cannot be read; torch speaks of the insides of its own reader."""
    if hint := pointer_hint(path):
        return hint
    remedy = "save the model's state_dict with safetensors or torch.save"
    if zipfile.is_zipfile(path):
        return f"it is an archive that torch did not write; {remedy}"
    if path.stat().st_size == 0:
        return f"it is empty; {remedy}"
    if path.suffix == ".safetensors":
        return f"{first_line(error)}; copy or save it anew"
    return f"it is cut short, or no file of torch; {remedy}"


def _states(content: object, name: str) -> dict[str, State]:
    """Return the mappings from names to tensors in a file, by the dotted name of their entry."""
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        return {}
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    found = {name: tensors} if tensors else {}
    for key, value in content.items():
        found |= _states(value, f"{name}.{key}" if name else key)
    return found


def _uncompiled(state: State) -> State:
    return {key.replace(_COMPILED, ""): value for key, value in state.items()}


def _prefixes(state: State, needed: list[str]) -> list[str]:
    """Return what names may begin with so that all needed weights are there; empty if they are there as they are."""
    if not needed:
        return []
    ends = [name.removesuffix(needed[0]) for name in state if name.endswith(needed[0])]
    return [prefix for prefix in ends if _holds(prefix, state) and all(prefix + name in state for name in needed)]


def _holds(prefix: str, state: State) -> bool:
    """Whether a prefix is that of a module around the model, not that of a layer in another one."""
    known = set(prefix.split(".")[:-1]) <= {*_HOLDERS}
    return prefix[-1:] in ("", ".") and (known or all(name.startswith(prefix) for name in state))


def _unheld(state: State) -> State:
    """Return weights without the known prefix that all of them share."""
    first = next(iter(state)).partition(".")[0] + "."
    shared = first.removesuffix(".") in _HOLDERS and all(name.startswith(first) for name in state)
    return _unheld(_strip(state, first)) if shared else state


def _strip(state: State, prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
