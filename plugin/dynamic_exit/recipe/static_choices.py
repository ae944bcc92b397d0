"""The stanza `dynamic_exit.tuning.static_search`, and the choices that it lists."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from pydantic import Field, ValidationError

from ..errors import RecipeError, nearest
from ..passes import PruningStanza, Stanza, explain
from ..passes.quantization import int8_options
from ..passes.quantization.config import known_algorithms

#: Name of the choice without pruning, or without quantization.
NONE = "none"
_KEY = "dynamic_exit.tuning.static_search"
# two mutually exclusive keys of `pruning` that say how much is removed
_GOALS = ("ratio", "target_cost")


class StaticSearch(Stanza):
    """Choices of pruning and quantization; the search finds the one that costs least together with the dynamic passes.

    Maximum drops and budgets then refer to the original backbone in float.
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
        pruning: The stanza; None for no pruning.
        quantization: Name of one algorithm -> its parameters; None for no quantization.
        names: Of the pruning and of the quantization, for tables.
    """

    pruning: PruningStanza | None
    quantization: dict[str, dict[str, Any] | None] | None
    names: tuple[str, str]

    @property
    def name(self) -> str:
        """The choice, for messages."""
        return f"pruning {self.names[0]}, quantization {self.names[1]}"


def list_choices(
    search: StaticSearch, pruning: PruningStanza | None, quantization: Mapping[str, dict[str, Any] | None] | None
) -> list[StaticChoice]:
    """List all combinations of the prunings and quantizations that a search names, ordered by pruning.

    Args:
        search: The stanza.
        pruning: The recipe's own stanza.
        quantization: The recipe's own stanza.

    Raises:
        RecipeError: A choice is unknown, invalid or repeated.
    """
    prunings = [_pruning(entry, pruning, f"{_KEY}.pruning.{i}") for i, entry in enumerate(search.pruning or ())]
    if search.pruning is None:
        prunings = [(_pruning_name(_explicit_values(pruning)) if pruning else NONE, pruning)]
    entries = search.quantization
    if entries is None:
        entries = [*(quantization or {}), *([] if len(quantization or {}) == 1 else [NONE])]
    quantizations = [
        _quantization(each, quantization or {}, f"{_KEY}.quantization.{i}") for i, each in enumerate(entries)
    ]
    listed: tuple[tuple[str, Sequence[tuple[str, object]]], ...]
    listed = (("pruning", prunings), ("quantization", quantizations))
    for kind, entries_of_kind in listed:
        for index, (name, choice) in enumerate(entries_of_kind):
            if choice in [earlier for _, earlier in entries_of_kind[:index]]:
                raise RecipeError(f"key '{_KEY}.{kind}' names the choice '{name}' twice; keep one")
    return [
        StaticChoice(stanza, parameters, (pruning_name, quantization_name))
        for (pruning_name, stanza), (quantization_name, parameters) in product(prunings, quantizations)
    ]


def _explicit_values(stanza: PruningStanza) -> dict[str, Any]:
    values = stanza.model_dump(mode="json", exclude_unset=True)
    return {key: value for key, value in values.items() if key not in _GOALS or value is not None} or {
        "ratio": stanza.ratio
    }


def _pruning(entry: float | dict[str, Any], base: PruningStanza | None, key: str) -> tuple[str, PruningStanza | None]:
    """Return the name and the stanza of one entry."""
    if entry == 0:
        return NONE, None
    changes = entry if isinstance(entry, dict) else {"ratio": entry}
    values = base.model_dump(mode="json", exclude_unset=True) if base else {}
    if any(key in changes for key in _GOALS):
        values = {key: value for key, value in values.items() if key not in _GOALS}
    try:
        return _pruning_name(changes), PruningStanza.model_validate(values | changes)
    except ValidationError as error:
        raise RecipeError(explain(error, key)) from None


def _pruning_name(values: Mapping[str, Any]) -> str:
    """The parameters of an entry; of more than three only those that say how much it prunes."""
    shown = {key: values[key] for key in _GOALS if key in values} if len(values) > 3 else values
    return ", ".join(f"{key} {value}" for key, value in (shown or values).items())


def _quantization(
    entry: str | dict[str, Any], base: Mapping[str, Any], key: str
) -> tuple[str, dict[str, dict[str, Any] | None] | None]:
    """Return the name and the stanza of one entry."""
    if entry == NONE:
        return NONE, None
    if isinstance(entry, str):
        known = known_algorithms()
        if entry not in known:
            raise RecipeError(f"key '{key}' is '{entry}'; {nearest(entry, [*known, NONE])}")
        name, stanza = entry, {entry: base.get(entry)}
    elif len(entry) != 1:
        raise RecipeError(f"key '{key}' must name one algorithm; got {', '.join(entry) or 'nothing'}")
    else:
        ((algorithm, values),) = entry.items()
        described = [f"{parameter} {value}" for parameter, value in (values or {}).items()]
        name, stanza = ", ".join([algorithm, *described]), {algorithm: values}
    int8_options(stanza)
    return name, stanza
