"""Every fault of a recipe at once, each with its place in the file.

Pydantic stops in a stanza at the first unknown key, and checks a stanza as a whole only when each of its keys is valid.
So what is faulty is told and replaced by something valid, until nothing new is found.
"""

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import DynamicExitError, RecipeError
from ..passes import third_party_passes_installed
from ..passes.quantization.config import ONNX_CHOICES, known_algorithms
from ..passes.stanza import explain_one
from .document import Document, Fault, Steps
from .recipe import Recipe
from .static_passes import with_passes
from .target_registry import DEFAULT_TARGET, TARGETS
from .yaml_io import set_key

# rounds of finding and replacing; each ends at least one fault
_MAX_ROUNDS = 60
#: What stands in for required keys and stanzas that are missing or faulty.
_STAND_INS: Mapping[str, Any] = {
    "model": {"source": "python", "name": "stand_in.py:model"},
    "model.source": "python",
    "model.name": "stand_in.py:model",
    "data": {"source": "npz", "path": ".", "splits": {"train": "a", "calibration": "b", "test": "c"}},
    "data.source": "npz",
    "data.path": ".",
    "data.splits": {"train": "a", "calibration": "b", "test": "c"},
    "data.splits.train": "a",
    "data.splits.calibration": "b",
    "data.splits.test": "c",
    "dynamic_exit": {"early_exit": {}},
    "export": {"directory": "stand_in"},
    "export.directory": "stand_in",
}
#: What stands in for an entry of a list, by the list's key, from its index.
_ELEMENTS: Mapping[str, Callable[[int], dict[str, Any]]] = {
    "candidates": lambda index: {"source": "python", "name": f"stand_in.py:candidate{index}"},
    "points": lambda index: {"name": f"stand_in_{index}", "budget": 0.987 - index / 1000},
}
# how pydantic names plain types on the way to an error
_TYPES = ("str", "int", "float", "bool")
_REQUIRED_OF_ELEMENTS = ("source", "name", "make")


class FoundFaults:
    """The faults of a recipe, and what is left of it.

    Args:
        document: The recipe's file, readable.
        overrides: As for `read_recipe`.

    Attributes:
        faults: In the order of the file.
        recipe: The recipe, in which stand-ins replace what is faulty; None if that did not help.
        replaced: Steps to what was replaced or left out.
    """

    def __init__(self, document: Document, overrides: Mapping[str, Any]):
        self.document = document
        self.faults: list[Fault] = list(document.faults)
        self.recipe: Recipe | None = None
        self.replaced: set[Steps] = set()
        self._values = copy.deepcopy(document.values)
        self._told: set[tuple[Steps, str]] = set()
        self._overridden = tuple(overrides)
        self._places: dict[Steps, tuple[int, int]] = {}
        if self.faults and not self._values:
            return
        if not isinstance(self._values, dict) or not self._values:
            what = f"must be a mapping, not a {type(self._values).__name__}" if self._values else "is empty"
            needed = "it needs the stanzas model, data, dynamic_exit and export"
            self.faults.append(Fault(f"the recipe {what}; {needed}", document.file))
            return
        for key, value in overrides.items():
            try:
                set_key(self._values, key, value)
            except RecipeError as error:
                self.faults.append(Fault(str(error), document.file))
        self._find()
        if self.recipe is not None:
            self._check_static(self.recipe)
        self.faults.sort(key=lambda fault: (fault.line, fault.column))

    def _find(self) -> None:
        if third_party_passes_installed():
            known_algorithms()  # the import of Neural Compressor registers them
        base = Path(self.document.file).parent
        for _ in range(_MAX_ROUNDS):
            try:
                self.recipe = with_passes(Recipe).model_validate(copy.deepcopy(self._values), context={"base": base})
                return
            except ValidationError as error:
                # all are told before anything is replaced, which moves no other
                found = [(self._steps(each["loc"]), each) for each in _of_first_type(error.errors())]
                new = [(steps, each) for steps, each in found if self._tell(steps, each)]
                for steps, each in new:
                    self._repair(steps, each)
                if not new:
                    return

    def _steps(self, location: Sequence[str | int]) -> Steps:
        """Return the steps of an error in the values; pydantic also names types on the way."""
        steps: list[str | int] = []
        current = self._values
        for step in location:
            inside = isinstance(current, list) and isinstance(step, int) and step < len(current)
            if inside or (isinstance(current, dict) and step in current):
                current = current[step]
                steps.append(step)
            elif isinstance(step, str) and step.isidentifier() and isinstance(current, dict) and step == location[-1]:
                steps.append(step)  # a missing key
        return tuple(steps)

    def _tell(self, steps: Steps, error: Mapping[str, Any]) -> bool:
        """Tell a fault, unless it comes from what was replaced; return whether there is something to replace."""
        message = explain_one(error, ".".join(map(str, steps)))
        if (steps, message) in self._told:
            return False
        self._told.add((steps, message))
        missing = error["type"] == "missing"
        if missing and steps in self.replaced:
            return True
        about = steps + ((error["ctx"]["key"],) if error["type"] == "unknown_key" else ())
        left_out = error["type"] == "refused" and any(each[:-1] == steps for each in self.replaced)
        if not left_out:
            self.faults.append(self._fault(about, message))
        return True

    def _repair(self, steps: Steps, error: Mapping[str, Any]) -> None:
        """Replace what is faulty by something valid, or leave it out."""
        if error["type"] == "unknown_key":
            self._rename(steps, str(error["ctx"]["key"]), str(error["ctx"]["hint"]))
            return
        self.replaced.add(steps)
        key = ".".join(map(str, steps))
        if key in _STAND_INS:
            self._put(steps, copy.deepcopy(_STAND_INS[key]))
            return
        if not steps:  # stanzas that contradict each other
            self._put(("dynamic_exit",), copy.deepcopy(_STAND_INS["dynamic_exit"]))
            return
        element = next((count for count in (len(steps), len(steps) - 1) if isinstance(steps[count - 1], int)), 0)
        required = element == len(steps) or steps[-1] in _REQUIRED_OF_ELEMENTS
        if element and required and steps[element - 2] in _ELEMENTS:
            index = int(steps[element - 1])
            self._put(steps[:element], _ELEMENTS[str(steps[element - 2])](index))
        else:
            self._remove(steps)

    def _rename(self, steps: Steps, key: str, hint: str) -> None:
        """Take a misspelt key for the one that is meant, if that is not there, else leave it out."""
        meant = re.fullmatch(r"did you mean '(\w+)'\?", hint)
        holder = self._holder((*steps, key))
        if not isinstance(holder, dict):
            return
        if not meant or meant[1] in holder:
            holder.pop(key, None)
        else:
            named = [(meant[1] if each == key else each, value) for each, value in holder.items()]
            holder.clear()  # the order of stanzas counts
            holder.update(named)
            old, new = (*steps, key), (*steps, meant[1])
            places = self.document.places
            self._places |= {(*new, *each[len(old) :]): places[each] for each in places if each[: len(old)] == old}

    def _put(self, steps: Steps, value: Any) -> None:
        holder = self._holder(steps)
        if isinstance(holder, dict) or (isinstance(holder, list) and int(steps[-1]) < len(holder)):
            holder[steps[-1]] = value  # type: ignore[index]

    def _remove(self, steps: Steps) -> None:
        holder = self._holder(steps)
        if isinstance(holder, dict):
            holder.pop(steps[-1], None)
        elif isinstance(holder, list):
            self._remove(steps[:-1])  # without the whole list, as places of others would move

    def _holder(self, steps: Steps) -> Any:
        """Return the stanza or list around a value; None if it was left out itself."""
        current = self._values
        for step in steps[:-1]:
            inside = isinstance(current, list) and isinstance(step, int) and step < len(current)
            if not inside and not (isinstance(current, dict) and step in current):
                return None
            current = current[step]
        return current

    def _fault(self, steps: Steps, message: str) -> Fault:
        key = ".".join(map(str, steps))
        if any(f"{key}.".startswith(f"{each}.") for each in self._overridden):
            return Fault(message, self.document.file, key=key)
        return replace(self.document, places={**self.document.places, **self._places}).fault(steps, message)

    def _check_static(self, recipe: Recipe) -> None:
        """Check what stanzas alone do not: algorithms of `quantization`, and choices of a search."""
        for steps, message in _quantization_faults(recipe):
            self.faults.append(self._fault(("quantization", *steps), message))
        try:
            recipe.choices  # noqa: B018  raises if a choice is invalid
        except RecipeError as error:
            search = ("dynamic_exit", "tuning", "static_search")
            self.faults.append(self._fault(search, str(error)))


def _of_first_type(errors: Sequence[Any]) -> list[Any]:
    """Leave out what is wrong with a value as a second type: of a key that takes several, each tells its errors."""
    first: dict[tuple[Any, ...], str] = {}
    kept = []
    for error in errors:
        location = error["loc"]
        at = next(
            (i for i, step in enumerate(location) if isinstance(step, str) and step in _TYPES or "[" in str(step)), None
        )
        if at is None or first.setdefault(location[:at], location[at]) == location[at]:
            kept.append(error)
    return kept


def _quantization_faults(recipe: Recipe) -> list[tuple[Steps, str]]:
    """Return the faults of `quantization`, each with the steps below it."""
    stanza, target = recipe.quantization or {}, recipe.export.target
    if target == DEFAULT_TARGET and _is_plain(stanza):
        return []  # without Neural Compressor, which takes seconds
    check, found = TARGETS.find(target).check_quantization, []

    def say(steps: Steps, part: dict[str, Any]) -> bool:
        try:
            check(part)
        except DynamicExitError as error:
            found.append((steps, str(error)))
            return False
        return True

    for name, parameters in stanza.items():
        if say((name,), {name: None}):
            for key, value in (parameters or {}).items():
                say((name, key), {name: {key: value}})
    if not found and stanza:
        say((), stanza)  # parts that contradict each other
    return found


def _is_plain(stanza: Mapping[str, Mapping[str, Any] | None]) -> bool:
    """Whether all parameters are known to be fine for the default target."""
    return all(
        name in ONNX_CHOICES
        and all(
            any(
                value is each or (value == each and type(value) is type(each))
                for each in ONNX_CHOICES[name].get(key, ())
            )
            for key, value in (parameters or {}).items()
        )
        for name, parameters in stanza.items()
    )
