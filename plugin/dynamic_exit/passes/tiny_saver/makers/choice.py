"""Which makers a recipe asks for, and whether they suit its inputs."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from ....errors import PassError
from .registry import MAKERS
from .stanza import AUTO, MakerStanza


def choose_makers(stanzas: Sequence[MakerStanza], inputs: Mapping[str, Tensor]) -> list[MakerStanza]:
    """Replace `auto` by all makers that suit the inputs, and refuse a maker that does not.

    Args:
        stanzas: As the recipe names them.
        inputs: Samples by name, each (N, ...).

    Returns:
        One stanza a maker, in the order of the recipe; a maker that is named has its own options, whatever `auto` adds.

    Raises:
        PassError: A maker does not suit the inputs, or none does.
    """
    suit = [name for name, maker in MAKERS.items().items() if maker.suits(inputs)]
    described = ", ".join(f"'{name}' {list(tensor.shape[1:])} {_dtype(tensor)}" for name, tensor in inputs.items())
    chosen: list[MakerStanza] = []
    named = [stanza.make for stanza in stanzas]
    for stanza in stanzas:
        if stanza.make == AUTO:
            if not any(MAKERS.find(name).is_automatic(inputs) for name in suit):
                raise PassError(f"no maker of savers suits the inputs {described}; name models in `candidates`")
            common = stanza.model_dump(exclude_unset=True, exclude={"make"})
            others = [name for name in suit if name not in named and MAKERS.find(name).is_automatic(inputs)]
            chosen += [MAKERS.find(name).Options.model_validate({"make": name, **common}) for name in others]
        elif stanza.make not in suit:
            those = ", ".join(suit) or "none; name models in `candidates`"
            takes = MAKERS.find(stanza.make).takes
            raise PassError(f"maker '{stanza.make}' takes {takes}, not {described}; those that suit it: {those}")
        else:
            chosen.append(stanza)
    return chosen


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
