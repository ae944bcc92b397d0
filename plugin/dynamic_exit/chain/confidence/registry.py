"""The registry of confidence rules, by the name that a recipe's `confidence` gives."""

import functools
from collections.abc import Callable
from typing import Annotated, TypeVar

from pydantic import AfterValidator, WithJsonSchema

from ...core.registry import Registry
from ...errors import ModelError
from ..rule_names import known_name
from .base import ConfidenceRule

RuleType = TypeVar("RuleType", bound=type[ConfidenceRule])


def _check_rule(name: str, rule: object) -> None:
    if not (isinstance(rule, type) and issubclass(rule, ConfidenceRule)):
        raise ModelError(f"confidence rule '{name}' must be a subclass of ConfidenceRule; got {rule!r}")
    missing = sorted(rule.__abstractmethods__)
    if missing:
        raise ModelError(f"confidence rule '{name}' lacks `{missing[0]}`; a rule has numpy, torch and onnx forms")


#: The classes of rules by name; the name of an entry point is the name of its rule.
RULES: Registry[type[ConfidenceRule]] = Registry(
    "confidence rule", ModelError, "dynamic_exit.confidence", check=_check_rule
)


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
    return _instance(RULES.find(name))


@functools.cache
def _instance(rule: type[ConfidenceRule]) -> ConfidenceRule:
    return rule()


#: The name of a rule in a recipe or a file.
ConfidenceName = Annotated[
    str, AfterValidator(known_name(RULES)), WithJsonSchema({"enum": ["top1", "margin"], "type": "string"})
]
