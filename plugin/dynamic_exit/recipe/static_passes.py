"""Static passes of a stanza (pruning, third-party passes, quantization), in the order in which they are written."""

import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Self, TypeVar

from pydantic import Field, ModelWrapValidatorHandler, PrivateAttr, create_model, model_validator

from ..passes import PassInfo, Stanza, registered_passes, why_broken
from ..passes.stanza import refuse

Kind = TypeVar("Kind", bound="StaticPasses")
_LAST = "quantization"


class StaticPasses(Stanza):
    """A stanza with static passes, which run in the order in which its keys are written."""

    #: Start of an error message.
    subject: ClassVar[str] = "the recipe "
    _order: tuple[str, ...] = PrivateAttr(())

    @property
    def static_passes(self) -> dict[str, Stanza]:
        """The stanzas of the static passes before quantization: name -> stanza, in the written order."""
        return {name: getattr(self, name) for name in self._order}

    def with_static(self, pruning: Stanza | None, quantization: dict[str, Any] | None) -> Self:
        """Return a copy with other pruning and quantization.

        Args:
            pruning: Runs where the stanza names it, else as the last pass before quantization; None for no pruning.
            quantization: None for no quantization.
        """
        order = [name for name in self._order if name != "pruning" or pruning is not None]
        if pruning is not None and "pruning" not in order:
            order.append("pruning")
        copy = self.model_copy(update={"pruning": pruning, "quantization": quantization})
        copy._order = tuple(order)
        return copy

    @model_validator(mode="wrap")
    @classmethod
    def _record_order(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(values, StaticPasses):
            return handler(values)
        keys = list(values) if isinstance(values, Mapping) else []
        for key in keys:
            if isinstance(key, str) and key not in cls.model_fields and why_broken(key):
                raise refuse(f"pass '{key}' could not be loaded: {why_broken(key)}")
        names = [key for key in keys if key in _static_passes() and values[key] is not None]
        for key in names:
            if _LAST in keys[: keys.index(key)] and values[_LAST] is not None:
                action = "prunes" if key == "pruning" else f"runs `{key}`"
                raise refuse(f"{cls.subject}{action} after it quantizes; write `{key}` before `quantization`")
        stanza = handler(values)
        stanza._order = tuple(names)
        return stanza


def _static_passes() -> dict[str, PassInfo]:
    return {name: info for name, info in registered_passes().items() if name == "pruning" or info.apply}


def with_passes(kind: type[Kind]) -> type[Kind]:
    """Return a stanza's class, extended by a key for each registered third-party pass."""
    return _extended(kind, tuple(info for info in _static_passes().values() if info.apply))


@functools.cache
def _extended(kind: type[Kind], passes: tuple[PassInfo, ...]) -> type[Kind]:
    if not passes:
        return kind
    fields: dict[str, Any] = {info.name: (info.stanza | None, Field(None, description=info.summary)) for info in passes}
    return create_model(kind.__name__, __base__=kind, __doc__=kind.__doc__, __module__=kind.__module__, **fields)


def in_written_order(stanza: StaticPasses, values: Mapping[str, Any]) -> dict[str, Any]:
    """Reorder a dumped stanza so that its static passes stand in the written order; passes not used are left out."""
    static = {name: values[name] for name in stanza.static_passes}
    unused = {name for name, info in _static_passes().items() if info.apply and name not in static}
    ordered = {}
    for key, value in values.items():
        if key == _LAST:
            ordered.update(static)
        if key not in static and key not in unused:
            ordered[key] = value
    return ordered
