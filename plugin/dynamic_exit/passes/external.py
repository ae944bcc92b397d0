"""Passes of other distributions: static passes under the entry points `dynamic_exit.passes`."""

import copy
import inspect
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

import torch
from torch import Tensor, nn

from ..errors import DynamicExitError, PassError, first_line
from .registry import PassInfo, register_pass, registered_passes
from .stanza import Stanza

#: Group of entry points; an entry's name is its pass's name.
GROUP = "dynamic_exit.passes"
#: Of what a pass declares and how it is called.
VERSION = 1

_BROKEN: dict[str, str] = {}


@dataclass(frozen=True)
class Samples:
    """What a static pass may learn from.

    Attributes:
        inputs: The model's inputs in order, each (N, ...).
        labels: int64 (N,), -1 where unknown.
    """

    inputs: tuple[Tensor, ...]
    labels: Tensor


@dataclass(frozen=True)
class StaticPass:
    """A pass of your own: it makes a smaller model of a model, before anything dynamic is added.

    Attributes:
        stanza: Model of its parameters, a subclass of `Stanza`.
        apply: ``(model, stanza, samples, seed) -> model``; it gets a copy in evaluation mode, which it may change.
        version: `VERSION` of the interface that it is written for.
    """

    stanza: type[Stanza]
    apply: Callable[[nn.Module, Stanza, Samples, int], nn.Module]
    version: int = VERSION


def register_static(name: str, given: StaticPass, origin: str = "") -> PassInfo:
    """Register a static pass: from then on recipes may hold its stanza.

    Args:
        name: Key of its stanza.
        given: What it does.
        origin: Distribution that it comes from.

    Returns:
        The registered pass.

    Raises:
        PassError: The name is no identifier, a recipe's own key, or taken; it is no `StaticPass`; or another version.
    """
    if not isinstance(given, StaticPass):
        raise PassError(f"pass '{name}' must be a StaticPass; got {type(given).__name__}")
    if given.version != VERSION:
        raise PassError(f"pass '{name}' is written for version {given.version} of passes, here is {VERSION}; update it")
    try:
        inspect.signature(given.apply).bind("model", "stanza", "samples", 0)
    except TypeError:
        raise PassError(f"pass '{name}' must take (model, stanza, samples, seed); its `apply` does not") from None
    register_pass(name, given.apply, origin)(given.stanza)
    return registered_passes()[name]


def third_party_passes_installed() -> bool:
    """Return whether any installed distribution declares passes; nothing is imported."""
    return bool(entry_points(group=GROUP))


def load_entry_points(taken: Collection[str] = ()) -> None:
    """Register the passes of all installed distributions; one that cannot be loaded is left out with a warning.

    Args:
        taken: Names that Neural Compressor's own algorithms have.
    """
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)):
        known = registered_passes().get(entry.name)
        if known is not None and known.origin == _origin(entry):  # a folder twice on the path lists it twice
            continue
        try:
            if known is None and entry.name in taken:
                raise PassError(f"Neural Compressor already has an algorithm '{entry.name}'; choose another name")
            register_static(entry.name, entry.load(), _origin(entry))
        except Exception as error:  # code of others raises anything
            reason = str(error) if isinstance(error, PassError) else f"{type(error).__name__}: {first_line(error)}"
            if isinstance(error, AttributeError) and "circular import" in reason:
                reason = f"'{entry.module}' was imported first; import dynamic_exit before it"
            _BROKEN[entry.name] = reason
            warnings.warn(f"pass '{entry.name}' of '{_origin(entry)}' is left out: {reason}", stacklevel=2)


def why_broken(name: str) -> str | None:
    """Return why the pass of a name could not be loaded, or None."""
    return None if name in registered_passes() else _BROKEN.get(name)


def _origin(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.value


def apply_static(info: PassInfo, model: nn.Module, stanza: Stanza, samples: Samples, seed: int) -> nn.Module:
    """Apply a static pass to a copy of a model.

    Args:
        info: The registered pass.
        model: Takes the inputs, answers logits (N, C) or something that holds them.
        stanza: Its parameters.
        samples: What it may learn from, two or more.
        seed: Governs its randomness.

    Returns:
        What the pass made, in evaluation mode; the given model stays as it was.

    Raises:
        PassError: It failed, or gave no module, or one that cannot take the samples.
    """
    try:
        made = info.apply(copy.deepcopy(model).eval(), stanza, samples, seed)
        if not isinstance(made, nn.Module):
            raise PassError(f"pass '{info.name}' must return a torch.nn.Module; it returned {type(made).__name__}")
        made = made.eval()
        with torch.no_grad():
            made(*(tensor[:2] for tensor in samples.inputs))
    except DynamicExitError:
        raise
    except Exception as error:  # code of others raises anything
        raise PassError(f"pass '{info.name}' failed with {type(error).__name__}: {first_line(error)}") from error
    return made
