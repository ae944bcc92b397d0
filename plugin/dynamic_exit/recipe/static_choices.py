"""The stanza of the search over static choices, and the choices that it names."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from pydantic import Field, ValidationError

from ..errors import RecipeError, nearest
from ..passes import PruningStanza, Stanza, explain
from ..passes.quantization import int8_options
from ..passes.quantization.config import known_algorithms

#: What a choice of nothing is called, and how no quantization is written.
NONE = "none"
_PLACE = "dynamic_exit.tuning.static_search"
# of a stanza of pruning, two ways to say how much goes; one takes the other's place
_GOALS = ("ratio", "target_cost")


class StaticSearch(Stanza):
    """Static choices: the stack of one of them and the dynamic passes that costs least is searched.

    Allowed drops, and budgets, then count against the backbone in float as it was given.
    """

    pruning: list[float | dict[str, Any]] | None = Field(
        None,
        min_length=1,
        description="shares of the channels that go, 0 for no pruning, or parameters of `pruning`, each over the "
        "recipe's; null: the recipe's own",
    )
    quantization: list[str | dict[str, dict[str, Any] | None]] | None = Field(
        None,
        min_length=1,
        description="none, or algorithms, with parameters or with those under the recipe's `quantization`; null: those "
        "that the recipe names, and none where they are several",
    )


@dataclass(frozen=True)
class StaticChoice:
    """One static choice.

    Attributes:
        pruning: How it prunes; None for not at all.
        quantization: Algorithm name -> parameters, of one algorithm; None for none.
        names: How both were written, for tables.
    """

    pruning: PruningStanza | None
    quantization: dict[str, dict[str, Any] | None] | None
    names: tuple[str, str]

    @property
    def name(self) -> str:
        """The choice in a few words."""
        return f"pruning {self.names[0]}, quantization {self.names[1]}"


def choices_of(
    search: StaticSearch, pruning: PruningStanza | None, quantization: Mapping[str, dict[str, Any] | None] | None
) -> list[StaticChoice]:
    """Return the choices that a search names, all combinations, those of one pruning together.

    Args:
        search: The stanza.
        pruning: The recipe's own.
        quantization: The recipe's own.

    Raises:
        RecipeError: A choice is unknown, wrong, or there twice.
    """
    pruned = [_pruning(each, pruning, f"{_PLACE}.pruning.{i}") for i, each in enumerate(search.pruning or ())]
    if search.pruning is None:
        pruned = [(_pruning_name(_given(pruning)) if pruning else NONE, pruning)]
    entries = search.quantization
    if entries is None:
        entries = [*(quantization or {}), *([] if len(quantization or {}) == 1 else [NONE])]
    ways = [_quantization(each, quantization or {}, f"{_PLACE}.quantization.{i}") for i, each in enumerate(entries)]
    for kind, found in (("pruning", pruned), ("quantization", ways)):
        for place, (name, choice) in enumerate(found):
            if choice in [before for _, before in found[:place]]:
                raise RecipeError(f"key '{_PLACE}.{kind}' names the choice '{name}' twice; keep one")
    return [
        StaticChoice(stanza, parameters, (pruning_name, way_name))
        for (pruning_name, stanza), (way_name, parameters) in product(pruned, ways)
    ]


def _given(stanza: PruningStanza) -> dict[str, Any]:
    values = stanza.model_dump(mode="json", exclude_unset=True)
    return {key: value for key, value in values.items() if key not in _GOALS or value is not None} or {
        "ratio": stanza.ratio
    }


def _pruning(entry: float | dict[str, Any], base: PruningStanza | None, place: str) -> tuple[str, PruningStanza | None]:
    """Return name and stanza of one entry."""
    if entry == 0:
        return NONE, None
    changes = entry if isinstance(entry, dict) else {"ratio": entry}
    values = base.model_dump(mode="json", exclude_unset=True) if base else {}
    if any(key in changes for key in _GOALS):
        values = {key: value for key, value in values.items() if key not in _GOALS}
    try:
        return _pruning_name(changes), PruningStanza.model_validate(values | changes)
    except ValidationError as error:
        raise RecipeError(explain(error, place)) from None


def _pruning_name(values: Mapping[str, Any]) -> str:
    """What an entry says, and of a stanza of many parameters how much it prunes."""
    shown = {key: values[key] for key in _GOALS if key in values} if len(values) > 3 else values
    return ", ".join(f"{key} {value}" for key, value in (shown or values).items())


def _quantization(
    entry: str | dict[str, Any], base: Mapping[str, Any], place: str
) -> tuple[str, dict[str, dict[str, Any] | None] | None]:
    """Return name and stanza of one entry."""
    if entry == NONE:
        return NONE, None
    if isinstance(entry, str):
        known = known_algorithms()
        if entry not in known:
            raise RecipeError(f"key '{place}' is '{entry}'; {nearest(entry, [*known, NONE])}")
        name, stanza = entry, {entry: base.get(entry)}
    elif len(entry) != 1:
        raise RecipeError(f"key '{place}' must name one algorithm; got {', '.join(entry) or 'nothing'}")
    else:
        ((algorithm, values),) = entry.items()
        said = [f"{key} {value}" for key, value in (values or {}).items()]
        name, stanza = ", ".join([algorithm, *said]), {algorithm: values}
    int8_options(stanza)
    return name, stanza
