"""Static passes of other distributions, found by the entry point group `dynamic_exit.passes`."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from ..errors import DynamicExitError, PassError, first_line
from .registry import PASSES, PassInfo, register_pass, registered_passes
from .stanza import Stanza

if TYPE_CHECKING:  # a recipe is read without torch
    from torch import Tensor, nn

#: Version of the interface of static passes.
VERSION = 1


@dataclass(frozen=True)
class Samples:
    """The training samples of a static pass.

    Attributes:
        inputs: The model's inputs in order, each (N, ...).
        labels: int64 (N,), -1 where unknown.
    """

    inputs: tuple[Tensor, ...]
    labels: Tensor


#: ``(model, stanza, samples, seed) -> model``
StaticApply = Callable[["nn.Module", Any, Samples, int], "nn.Module"]


@dataclass(frozen=True)
class StaticPass:
    """A custom pass that makes a smaller model, before anything dynamic is added.

    Attributes:
        stanza: Model of its parameters, a subclass of `Stanza`.
        apply: ``(model, stanza, samples, seed) -> model``; it receives a copy in evaluation mode, which it may change.
        version: `VERSION` of the interface that it was written for.
    """

    stanza: type[Stanza]
    apply: StaticApply
    version: int = VERSION


def register_static(name: str, value: object, origin: str = "") -> PassInfo:
    """Register a static pass: from then on recipes may contain its stanza.

    Args:
        name: Key of its stanza.
        value: A `StaticPass`; anything else is refused.
        origin: Name of its distribution.

    Returns:
        The registered pass.

    Raises:
        PassError: The name is no identifier, a recipe's own key, or already registered; or `value` is no `StaticPass`
            of this version.
    """
    if not isinstance(value, StaticPass):
        raise PassError(f"pass '{name}' must be a StaticPass; got {type(value).__name__}")
    if value.version != VERSION:
        raise PassError(f"pass '{name}' is written for version {value.version} of passes, here is {VERSION}; update it")
    try:
        inspect.signature(value.apply).bind("model", "stanza", "samples", 0)
    except TypeError:
        raise PassError(f"pass '{name}' must take (model, stanza, samples, seed); its `apply` does not") from None
    register_pass(name, value.apply, origin)(value.stanza)
    return registered_passes()[name]


def third_party_passes_installed() -> bool:
    """Return whether any installed distribution declares passes; nothing is imported."""
    return bool(entry_points(group=PASSES.group or ""))


def load_entry_points(taken: Collection[str] = ()) -> None:
    """Register the passes of all installed distributions; one that cannot be loaded is skipped with a warning.

    Args:
        taken: Names of Neural Compressor's own algorithms.
    """

    def register(name: str, value: object, origin: str) -> None:
        if name in taken and name not in registered_passes():
            raise PassError(f"Neural Compressor already has an algorithm '{name}'; choose another name")
        register_static(name, value, origin)

    PASSES.load_entry_points(register)


def why_broken(name: str) -> str | None:
    """Return why the pass of this name could not be loaded; None if it was, or is unknown."""
    return PASSES.why_broken(name)


def apply_static(info: PassInfo, model: nn.Module, stanza: Stanza, samples: Samples, seed: int) -> nn.Module:
    """Apply a static pass to a copy of a model.

    Args:
        info: A registered static pass.
        model: Maps the inputs to logits (N, C) or something that contains them; it is copied.
        stanza: Parameters of the pass.
        samples: Training samples, two or more.
        seed: Of its randomness.

    Returns:
        The result in evaluation mode.

    Raises:
        PassError: The pass is not static, failed, returned no module, or one that fails on the samples.
    """
    import torch
    from torch import nn

    if info.apply is None:
        raise PassError(f"pass '{info.name}' is built in and has no `apply`; give a pass of another distribution")
    try:
        made = info.apply(copy.deepcopy(model).eval(), stanza, samples, seed)
        if not isinstance(made, nn.Module):
            raise PassError(f"pass '{info.name}' must return a torch.nn.Module; it returned {type(made).__name__}")
        made = made.eval().cpu()  # a pass may train on a GPU and leave its result there
        with torch.no_grad():
            made(*(tensor[:2] for tensor in samples.inputs))
    except DynamicExitError:
        raise
    except Exception as error:  # other code may raise anything
        raise PassError(f"pass '{info.name}' failed with {type(error).__name__}: {first_line(error)}") from error
    return made
