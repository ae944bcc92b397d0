"""The registry of passes: the stanza of each, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ..core.registry import Registry
from ..errors import PassError
from .stanza import Stanza

if TYPE_CHECKING:  # it imports this module
    from .external import StaticApply

#: Keys of a recipe that no pass may use.
RESERVED = ("seed", "model", "data", "quantization", "dynamic_exit", "tuning", "cache", "export")


@dataclass(frozen=True)
class PassInfo:
    """A registered pass.

    Attributes:
        name: Key of its stanza in a recipe, and name of its algorithm in Neural Compressor.
        stanza: Model of its parameters.
        summary: The first line of the stanza's docstring.
        apply: Of a static pass of another distribution, see `external.StaticPass`; None for a built-in pass.
        origin: Name of its distribution.
    """

    name: str
    stanza: type[Stanza]
    summary: str
    apply: "StaticApply | None" = None
    origin: str = "dynamic_exit"


#: The name of an entry point is the name of its pass.
PASSES: Registry[PassInfo] = Registry("pass", PassError, "dynamic_exit.passes")
StanzaType = TypeVar("StanzaType", bound=type[Stanza])


def register_pass(
    name: str, apply: "StaticApply | None" = None, origin: str = "dynamic_exit"
) -> Callable[[StanzaType], StanzaType]:
    """Register a stanza class as the pass `name`.

    Args:
        name: A Python identifier that no other pass uses.
        apply: As in `PassInfo`.
        origin: As in `PassInfo`.

    Returns:
        A class decorator.

    Raises:
        PassError: The name is no identifier, a recipe's own key, or already registered; or the class is no `Stanza`.
    """

    def decorate(stanza: StanzaType) -> StanzaType:
        if name in RESERVED:
            raise PassError(f"a pass cannot be called '{name}', which is a recipe's own key; choose another name")
        PASSES.check_name(name)
        if not (isinstance(stanza, type) and issubclass(stanza, Stanza)):
            raise PassError(f"pass '{name}' must be described by a subclass of Stanza; got {stanza!r}")
        summary = (stanza.__doc__ or name).strip().splitlines()[0]
        PASSES.add(name, PassInfo(name, stanza, summary, apply, origin), stanza.__module__)
        return stanza

    return decorate


def registered_passes() -> dict[str, PassInfo]:
    """Return all registered passes by name, in order of registration; entry points are not loaded for it."""
    return PASSES.registered()
