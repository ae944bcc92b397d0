"""The registry of confidence rules, by the name that a recipe's `confidence` gives."""

from collections.abc import Callable
from typing import Annotated, TypeVar

from pydantic import AfterValidator, WithJsonSchema

from ..rule_registry import RuleRegistry
from .base import ConfidenceRule

RuleType = TypeVar("RuleType", bound=type[ConfidenceRule])


#: The classes of rules by name; the name of an entry point is the name of its rule.
RULES = RuleRegistry("confidence rule", "dynamic_exit.confidence", ConfidenceRule)  # type: ignore[type-abstract]


def register_confidence(name: str) -> Callable[[RuleType], RuleType]:
    """Register a subclass of `ConfidenceRule` without arguments; recipes may then name it as `confidence`.

    Args:
        name: An identifier that no other rule has.

    Returns:
        A class decorator.

    Raises:
        ModelError: The name is no identifier or taken, or the class lacks one of the rule's three forms.
    """
    return RULES.register(name)


def confidence_names() -> tuple[str, ...]:
    """Return the names of all rules, those of other distributions last."""
    return RULES.names()


def confidence_rule(name: str) -> ConfidenceRule:
    """Return the rule of a name.

    Raises:
        ModelError: There is none.
    """
    return RULES.instance(name)


#: The name of a rule in a recipe or a file.
ConfidenceName = Annotated[
    str, AfterValidator(RULES.known_name()), WithJsonSchema({"enum": ["top1", "margin", "learned"], "type": "string"})
]
