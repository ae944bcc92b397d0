"""The passes by name: each registers its own stanza, and refuses a name that is taken."""

from collections.abc import Callable
from dataclasses import dataclass

from ..errors import PassError
from .stanza import Stanza

_PASSES: dict[str, "PassInfo"] = {}


@dataclass(frozen=True)
class PassInfo:
    """A registered pass.

    Attributes:
        name: Key of its stanza in a recipe, and its algorithm name in Neural Compressor.
        stanza: Model of its parameters.
        summary: One line on what it does.
    """

    name: str
    stanza: type[Stanza]
    summary: str


def register_pass(name: str) -> Callable[[type[Stanza]], type[Stanza]]:
    """Register a stanza class as the pass `name`.

    Args:
        name: A Python identifier that no other pass uses.

    Returns:
        A class decorator.

    Raises:
        PassError: The name is no identifier or taken, or the class is no `Stanza`.
    """

    def decorate(stanza: type[Stanza]) -> type[Stanza]:
        if not name.isidentifier():
            raise PassError(f"a pass must be named by an identifier; got '{name}'")
        if name in _PASSES:
            taken = _PASSES[name].stanza
            raise PassError(f"pass '{name}' is already registered by {taken.__module__}; choose another name")
        if not (isinstance(stanza, type) and issubclass(stanza, Stanza)):
            raise PassError(f"pass '{name}' must be described by a subclass of Stanza; got {stanza!r}")
        _PASSES[name] = PassInfo(name, stanza, (stanza.__doc__ or name).strip().splitlines()[0])
        return stanza

    return decorate


def registered_passes() -> dict[str, PassInfo]:
    """Return all registered passes by name, in the order of registration."""
    return dict(_PASSES)
