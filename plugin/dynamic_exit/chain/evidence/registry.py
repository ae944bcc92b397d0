"""The registry of evidence rules, by the name that a recipe's `fuse` gives."""

from collections.abc import Callable
from typing import Annotated, TypeVar

from pydantic import AfterValidator, WithJsonSchema

from ..rule_registry import RuleRegistry
from .base import EvidenceRule

RuleType = TypeVar("RuleType", bound=type[EvidenceRule])


#: The classes of rules by name; the name of an entry point is the name of its rule.
RULES = RuleRegistry("evidence rule", "dynamic_exit.evidence", EvidenceRule)  # type: ignore[type-abstract]


def register_evidence(name: str) -> Callable[[RuleType], RuleType]:
    """Register a subclass of `EvidenceRule` without arguments; recipes may then name it as `fuse`.

    Args:
        name: An identifier that no other rule has.

    Returns:
        A class decorator.

    Raises:
        ModelError: The name is no identifier or taken, or the class lacks one of the rule's three forms.
    """
    return RULES.register(name)


def evidence_names() -> tuple[str, ...]:
    """Return the names of all rules, those of other distributions last."""
    return RULES.names()


def evidence_rule(name: str) -> EvidenceRule:
    """Return the rule of a name.

    Raises:
        ModelError: There is none.
    """
    return RULES.instance(name)


#: The name of a rule in a recipe or a file.
EvidenceName = Annotated[
    str, AfterValidator(RULES.known_name()), WithJsonSchema({"enum": ["none", "mean", "product"], "type": "string"})
]
