"""The passes by name: each registers its own stanza, and refuses a name that is taken."""

from collections.abc import Callable
from dataclasses import dataclass

from ..errors import PassError
from .stanza import Stanza

#: Keys of a recipe that are no passes.
RESERVED = ("seed", "model", "data", "quantization", "dynamic_exit", "tuning", "cache", "export")

_PASSES: dict[str, "PassInfo"] = {}


@dataclass(frozen=True)
class PassInfo:
    """A registered pass.

    Attributes:
        name: Key of its stanza in a recipe, and its algorithm name in Neural Compressor.
        stanza: Model of its parameters.
        summary: One line on what it does.
        apply: Of a pass of another distribution, see `external.StaticPass`; None for this project's own.
        origin: Distribution that it comes from.
    """

    name: str
    stanza: type[Stanza]
    summary: str
    apply: Callable | None = None
    origin: str = "dynamic_exit"


def register_pass(
    name: str, apply: Callable | None = None, origin: str = "dynamic_exit"
) -> Callable[[type[Stanza]], type[Stanza]]:
    """Register a stanza class as the pass `name`.

    Args:
        name: A Python identifier that no other pass uses.
        apply: As in `PassInfo`.
        origin: As in `PassInfo`.

    Returns:
        A class decorator.

    Raises:
        PassError: The name is no identifier, a recipe's own key, or taken; or the class is no `Stanza`.
    """

    def decorate(stanza: type[Stanza]) -> type[Stanza]:
        if not name.isidentifier():
            raise PassError(f"a pass must be named by an identifier; got '{name}'")
        if name in RESERVED:
            raise PassError(f"a pass cannot be called '{name}', which is a recipe's own key; choose another name")
        if name in _PASSES:
            taken = _PASSES[name].stanza
            raise PassError(f"pass '{name}' is already registered by {taken.__module__}; choose another name")
        if not (isinstance(stanza, type) and issubclass(stanza, Stanza)):
            raise PassError(f"pass '{name}' must be described by a subclass of Stanza; got {stanza!r}")
        summary = (stanza.__doc__ or name).strip().splitlines()[0]
        _PASSES[name] = PassInfo(name, stanza, summary, apply, origin)
        return stanza

    return decorate


def registered_passes() -> dict[str, PassInfo]:
    """Return all registered passes by name, in the order of registration."""
    return dict(_PASSES)
