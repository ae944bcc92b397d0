"""Static passes in a stanza: pruning, those of other distributions and quantization, in the order they are written."""

import functools
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from pydantic import Field, PrivateAttr, create_model, model_validator

from ..passes import PassInfo, Stanza, registered_passes, why_broken
from ..passes.stanza import refuse

Kind = TypeVar("Kind", bound="StaticPasses")
_LAST = "quantization"


class StaticPasses(Stanza):
    """A stanza that holds static passes, which run in the order in which its keys are written."""

    #: Begins a refusal.
    subject: ClassVar[str] = "the recipe "
    _order: tuple[str, ...] = PrivateAttr(())

    @property
    def static_passes(self) -> dict[str, Stanza]:
        """The stanzas of the static passes before quantization, by name in the written order."""
        return {name: getattr(self, name) for name in self._order}

    def with_static(self: Kind, pruning: Stanza | None, quantization: dict[str, Any] | None) -> Kind:
        """Return the stanza with another choice of pruning and quantization.

        Args:
            pruning: In its written place, else the last of the passes before quantization; None for none.
            quantization: None for none.
        """
        order = [name for name in self._order if name != "pruning" or pruning is not None]
        if pruning is not None and "pruning" not in order:
            order.append("pruning")
        made = self.model_copy(update={"pruning": pruning, "quantization": quantization})
        made._order = tuple(order)
        return made

    @model_validator(mode="wrap")
    @classmethod
    def _in_order(cls, values, handler):
        if isinstance(values, StaticPasses):
            return handler(values)
        keys = list(values) if isinstance(values, Mapping) else []
        for key in keys:
            if isinstance(key, str) and key not in cls.model_fields and why_broken(key):
                raise refuse(f"pass '{key}' could not be loaded: {why_broken(key)}")
        static = [key for key in keys if key in _static() and values[key] is not None]
        for key in static:
            if _LAST in keys[: keys.index(key)] and values[_LAST] is not None:
                said = "prunes" if key == "pruning" else f"runs `{key}`"
                raise refuse(f"{cls.subject}{said} after it quantizes; write `{key}` before `quantization`")
        made = handler(values)
        made._order = tuple(static)
        return made


def _static() -> dict[str, PassInfo]:
    return {name: info for name, info in registered_passes().items() if name == "pruning" or info.apply}


def with_passes(kind: type[Kind]) -> type[Kind]:
    """Return a stanza's class with a key for each registered pass of other distributions."""
    return _extended(kind, tuple(info for info in _static().values() if info.apply))


@functools.cache
def _extended(kind: type[Kind], passes: tuple[PassInfo, ...]) -> type[Kind]:
    if not passes:
        return kind
    fields = {info.name: (info.stanza | None, Field(None, description=info.summary)) for info in passes}
    return create_model(kind.__name__, __base__=kind, __doc__=kind.__doc__, __module__=kind.__module__, **fields)


def in_written_order(stanza: StaticPasses, values: Mapping[str, Any]) -> dict[str, Any]:
    """Put the static passes of a dumped stanza back into the written order; those that are not used fall away."""
    static = {name: values[name] for name in stanza.static_passes}
    unused = {name for name, info in _static().items() if info.apply and name not in static}
    ordered = {}
    for key, value in values.items():
        if key == _LAST:
            ordered.update(static)
        if key not in static and key not in unused:
            ordered[key] = value
    return ordered
